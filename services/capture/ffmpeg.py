import shutil
import subprocess
from pathlib import Path

from services.common.errors import SetupError

_LIST_TIMEOUT_S = 20.0


def find_ffmpeg(named: Path | None = None) -> str:
    """Return the ffmpeg program to use: the one that is named, else on PATH, else imageio-ffmpeg's.

    Raises:
        SetupError: there is none.
    """
    if named is not None:
        if (program := shutil.which(named)) is None:
            raise SetupError(f"FACEFERRY_FFMPEG: {named} is no program")
        return program
    return shutil.which("ffmpeg") or _bundled()


def has_filter(ffmpeg: str, name: str) -> bool:
    """Say whether an ffmpeg has a filter."""
    listed = subprocess.run(
        [ffmpeg, "-hide_banner", "-loglevel", "error", "-filters"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIST_TIMEOUT_S,
    )
    return f" {name} " in listed.stdout


def _bundled() -> str:
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - images that bring ffmpeg itself do without this package
    except ImportError:
        raise SetupError("ffmpeg is not installed: `apt-get install ffmpeg`") from None
    try:
        program: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise SetupError(f"ffmpeg is not installed: `apt-get install ffmpeg` ({error})") from error
    return program
