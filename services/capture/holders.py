"""Who has a device open, as far as this user may see."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def in_use(path: str) -> str:
    """Return in words that a device is in use, and by whom. Blocks for milliseconds.

    Args:
        path: the device's, or a link to it.
    """
    names = [_describe(pid) for pid in holders(path)]
    return f"in use by {', '.join(names) or 'another program'}"


def holders(path: str) -> Iterator[int]:
    """Yield who has a device open, but for this process; other users' and containers' are hidden."""
    try:
        device = Path(path).stat()
    except OSError:
        return
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid != os.getpid() and any(_is_same(file, device) for file in _open_files(folder)):
            yield pid


def _open_files(process: Path) -> Iterator[os.stat_result]:
    try:
        for file in (process / "fd").iterdir():
            yield file.stat()
    except OSError:
        return  # another user's, or it has ended, or closed what it had open


def _is_same(file: os.stat_result, device: os.stat_result) -> bool:
    return stat.S_ISCHR(file.st_mode) and file.st_rdev == device.st_rdev


def _describe(pid: int) -> str:
    try:
        # `PID (NAME) STATE PARENT ...`, and a name may hold anything.
        before, _, after = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return f"process {pid}"
    if int(after.split()[1]) == os.getpid():
        return "another of these cameras"
    return f"{before.partition('(')[2]} (process {pid})"
