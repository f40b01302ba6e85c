"""Clips for the benchmarks, made from real ones with ffmpeg and kept in the user's cache."""

import os
import subprocess
from pathlib import Path

from services.capture.ffmpeg import find_ffmpeg

SHARED = Path(__file__).parents[2] / "shared" / "data" / "video"
CROWD = (
    "classroom.mp4",
    "face-demographics-walking-and-pause.mp4",
    "head-pose-face-detection-female-and-male.mp4",
)
ONE_FACE = ("book.mkv",)
CODECS = {
    "mjpeg": ("avi", ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]),
    "h264": ("mp4", ["-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-pix_fmt", "yuv420p"]),
}


def clip(names: tuple[str, ...], codec: str, size: str, fps: int = 30) -> Path:
    """Return a clip of these sources one after the other, at a size and in a codec.

    Args:
        names: of the source clips.
        codec: `mjpeg` (what a USB webcam delivers) or `h264`.
        size: `WIDTHxHEIGHT`; other proportions get black borders.
        fps: the rate it is played at; no frame is added or left out.
    """
    suffix, encode = CODECS[codec]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceferry-benchmarks"
    made = cache / f"{'+'.join(Path(name).stem for name in names)}-{size}-{fps}.{codec}.{suffix}"
    if made.exists():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    width, height = size.split("x")
    fit = (
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:flags=bicubic,"
        f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,settb=1/{fps},setpts=N"
    )
    inputs = [part for name in names for part in ("-i", str(SHARED / name))]
    chains = "".join(f"[{number}:v]{fit}[v{number}];" for number in range(len(names)))
    joined = "".join(f"[v{number}]" for number in range(len(names)))
    graph = f"{chains}{joined}concat=n={len(names)}:v=1,setpts=N/({fps}*TB)"
    unfinished = made.with_name(f"{os.getpid()}-{made.name}")
    subprocess.run(
        [
            find_ffmpeg(),
            "-v",
            "error",
            "-y",
            *inputs,
            "-filter_complex",
            graph,
            "-r",
            str(fps),
            *encode,
            unfinished,
        ],
        check=True,
    )
    unfinished.replace(made)
    return made
