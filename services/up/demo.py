"""A short clip with a face, for machines without a camera."""

import os
import subprocess
from pathlib import Path

from services.capture.source.ffmpeg import find_ffmpeg, named_in
from services.common.errors import SetupError

FRAMES = 180
# A 4:3 part of the upright portrait, because zoompan would stretch it; enlarged, as it moves by whole pixels.
_PANS_AND_ZOOMS = (
    "crop=iw:iw*3/4:0:ih*0.04,scale=2560:-2,zoompan="
    "z='1.2-0.2*cos(2*PI*on/180)':"
    "x='(iw-iw/zoom)*(0.5+0.3*sin(2*PI*on/120))':"
    "y='(ih-ih/zoom)*(0.4+0.3*sin(2*PI*on/90))':"
    f"d={FRAMES}:s=640x480:fps=15"
)


def demo_clip(folder: Path) -> Path:
    """Return a clip of slow pans and zooms over a public-domain portrait; made where it does not exist.

    The portrait (Rear Admiral Grace Hopper, U.S. Navy) comes with matplotlib as sample data.

    Raises:
        SetupError: matplotlib or ffmpeg is missing.
    """
    clip = folder / "demo.mp4"
    if clip.exists():
        return clip
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = clip.with_name(f"demo-{os.getpid()}.mp4")
    command = [
        find_ffmpeg(named_in(os.environ)),
        "-v",
        "error",
        "-y",
        "-i",
        str(_portrait()),
        "-vf",
        _PANS_AND_ZOOMS,
    ]
    made = subprocess.run(
        [*command, "-frames:v", str(FRAMES), "-pix_fmt", "yuv420p", str(unfinished)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise SetupError(f"ffmpeg could not make the demonstration clip: {made.stderr.strip()[-300:]}")
    unfinished.replace(clip)
    return clip


def _portrait() -> Path:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only here, and only if there is no camera
    except ImportError as error:
        raise SetupError(
            "no camera was found, and the demonstration clip needs matplotlib: "
            "pip install 'faceferry[demo]', or name a --source"
        ) from error
    return Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
