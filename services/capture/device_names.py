"""Names of a device that it keeps when it is plugged in again, as udev gives them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDERS = ("/dev/v4l/by-id", "/dev/v4l/by-path")
"""What a camera says it is; of two that say the same only one has the name. Then the socket that it is in."""


def links() -> dict[str, str]:
    """Return the device, `/dev/video0`, behind each lasting name of this machine, the better names first."""
    return {str(link): str(link.resolve()) for folder in FOLDERS for link in _in(Path(folder))}


def lasting(device: str, behind: Mapping[str, str]) -> str:
    """Return a device's best lasting name; itself if it has none, as where there is no udev.

    Args:
        device: `/dev/video0`.
        behind: see `links`.
    """
    return next((name for name, target in behind.items() if target == device), device)


def _in(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return  # no camera has ever been plugged in, or it was just pulled out
