"""The file system that a folder is on, and the one that it should be on.

After proc_pid_mountinfo(5) and fstab(5).
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

FSTAB = Path("/etc/fstab")

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_NOWHERE = Path("/")


class Mount(NamedTuple):
    """A line of `mountinfo`: a mounted file system."""

    parent: str
    point: Path
    kind: str


def mount_point(descriptor: int) -> Path:
    """Return the mount point of an open folder's file system; `/` if the kernel does not say.

    It is looked up by the mount's number, because several file systems may be mounted at one path.
    """
    try:
        about = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes()
        mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return _NOWHERE
    number = next((line.split()[1].decode() for line in about.splitlines() if line.startswith(b"mnt_id")), "")
    while number in mounts:
        if mounts[number].kind != "autofs":
            return mounts[number].point
        number = mounts[number].parent  # it waits for a disk
    return _NOWHERE


def declared_mount_point(path: Path) -> Path:
    """Return the mount point that `/etc/fstab` declares for a path; `/` where it declares none.

    Args:
        path: absolute, without symbolic links.
    """
    try:
        points = parse_fstab(FSTAB.read_bytes())
    except OSError:
        return _NOWHERE
    return max((point for point in points if path.is_relative_to(point)), key=_depth, default=_NOWHERE)


def is_above(one: Path, other: Path) -> bool:
    """Say whether `other` is below the folder `one`."""
    return one != other and other.is_relative_to(one)


def parse_mountinfo(text: bytes) -> dict[str, Mount]:
    """Return the mounts by their numbers."""
    mounts: dict[str, Mount] = {}
    for line in text.splitlines():
        fields = line.split(b" ")
        if len(fields) > 6 and b"-" in fields[6:-1]:
            kind = fields[fields.index(b"-", 6) + 1].decode(errors="replace")
            mounts[fields[0].decode()] = Mount(fields[1].decode(), _path(fields[4]), kind)
    return mounts


def parse_fstab(text: bytes) -> list[Path]:
    """Return the mount points."""
    lines = [line.split() for line in text.splitlines()]
    return [
        _path(fields[1].rstrip(b"/") or b"/")
        for fields in lines
        if len(fields) > 2 and not fields[0].startswith(b"#") and fields[1].startswith(b"/")
    ]


def _path(field: bytes) -> Path:
    return Path(os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field)))


def _depth(path: Path) -> int:
    return len(path.parts)
