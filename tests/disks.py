"""Real small file systems, as tests need them: full, read-only, unmounted, frozen, dead. For root alone."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.conftest import skip

EXT4_BYTES = 16 * 1024 * 1024
SMALLEST_BLOCK_BYTES = 1024

_EXT4_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)


class Disk:
    """A file system that can be mounted at a folder, and taken away again.

    Args:
        point: where it is mounted; made here.
        image: an ext4 image, made here; nothing for a tmpfs of `size`.
        size: of the tmpfs, as mount(8) takes it.
    """

    def __init__(self, point: Path, image: Path | None = None, size: str = "4m") -> None:
        self.point = point
        self._image = image
        self._size = size
        point.mkdir(parents=True, exist_ok=True)
        if image is not None and not image.exists():
            with image.open("wb") as file:
                file.truncate(EXT4_BYTES)
            _run("mkfs.ext4", "-q", "-F", str(image))

    def mount(self) -> Self:
        if self._image is not None:
            _run("mount", "-o", "loop", str(self._image), str(self.point))
        else:
            _run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "faceferry-test", str(self.point))
        return self

    def unmount(self) -> None:
        _run("umount", str(self.point))

    def remount(self, how: str) -> None:
        _run("mount", "-o", f"remount,{how}", str(self.point))

    def fill(self) -> Path:
        """Take all room there is, to the last block; return what has it."""
        ballast = self.point / "ballast"
        with ballast.open("wb", buffering=0) as file:
            # What was only promised is given out at fsync, and a block or two may be left over then.
            for block_bytes in (64 * 1024, 4096, SMALLEST_BLOCK_BYTES, SMALLEST_BLOCK_BYTES):
                with suppress(OSError):
                    while True:
                        file.write(bytes(block_bytes))
                os.fsync(file.fileno())
        return ballast

    @contextmanager
    def protected(self, folder: Path) -> Iterator[None]:
        """Have nobody make anything in a folder, not even root; what lies in its folders may change."""
        _run("chattr", "+i", str(folder))
        try:
            yield
        finally:
            _run("chattr", "-i", str(folder))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have every write wait, as a server of files does that has gone away; not even SIGKILL ends one."""
        _run("fsfreeze", "--freeze", str(self.point))
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", str(self.point))

    def pull_out(self) -> None:
        """Have every use of it fail as a disk's does whose cable was pulled."""
        descriptor = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)


@contextmanager
def mountable(folder: Path) -> Iterator[None]:
    """Skip where nothing can be mounted; in the end unmount whatever is mounted below a folder."""
    if os.geteuid() != 0:
        skip("only root may mount file systems")
    probe = Disk(folder / "probe", folder / "probe.img")
    try:
        probe.mount().unmount()
    except (OSError, subprocess.CalledProcessError) as error:
        skip(f"file systems cannot be mounted here: {error}")
    try:
        yield
    finally:
        for point in reversed(_mounted_below(folder)):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def _mounted_below(folder: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
