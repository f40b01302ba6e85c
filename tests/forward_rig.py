"""Faces, small disks and a running writer for the tests of forward's spool."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from services.common.erasure.reports import Report
from services.common.wire.faces import encode_face, mint
from services.common.wire.times import from_unix_s
from services.common.wire.topics import Source
from services.forward.spool.commands import BacklogPart, BacklogRead
from services.forward.spool.disk import Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.writer import SpoolWriter
from tests.conftest import skip

EVERYTHING = BacklogRead(epoch=0, after=0, until=1 << 60, most_bytes=1 << 60)
ALL_FIRSTS = replace(EVERYTHING, only_firsts=True)
RESERVE_BYTES = 1024 * 1024
PAGE = 8_192
DEVICE = "dev"


def face(sequence: int, size_bytes: int = 20_000, device: str = DEVICE, **extensions: str) -> SpooledFace:
    pixels = sequence.to_bytes(8) + os.urandom(size_bytes)
    time = from_unix_s(1_700_000_000 + sequence)
    made = mint(Source(device, "cam"), time, pixels, "image/jpeg", {"box": "1,2,3,4", **extensions})
    return SpooledFace(sequence, made.id, encode_face(made))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A folder that is a file system of its own."""
    if os.geteuid() != 0:
        skip("mounting a small file system needs root")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "none", str(folder)]
    if subprocess.run(command, check=False).returncode != 0:
        skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def zero_page(database: Path, number: int) -> None:
    """Zero a page that is missed: the first one from a number on that leads to the rest of an image."""
    with database.open("r+b") as file:
        while (file.seek((number - 1) * PAGE), file.read(4))[1] != (number + 1).to_bytes(4):
            number += 1
        file.seek((number - 1) * PAGE)
        file.write(bytes(PAGE))


def take_all_room(folder: Path) -> Path:
    """Fill a disk to its last byte; return the file that does."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            return filler


class Answered:
    """What a writer has answered."""

    def __init__(self) -> None:
        self.written: list[SpooledFace] = []
        self.turned_away: list[SpooledFace] = []
        self.parts: list[BacklogPart] = []
        self.put_back: list[int] = []
        self.tried: list[tuple[str, list[str]]] = []
        self.expired: list[str] = []
        self.reports: list[Report] = []

    async def listen_to(self, writer: SpoolWriter) -> None:
        """Have a writer work, and note what it tells."""
        told = _Told(self)
        await writer.run(told, told)


class _Told:
    """Is told by a writer, in the place of receiver and sender."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered

    def written(self, faces: list[SpooledFace], _added: int) -> None:
        self._answered.written += faces

    def turned_away(self, faces: list[SpooledFace]) -> None:
        self._answered.turned_away += faces

    def backlog_read(self, _read: BacklogRead, part: BacklogPart) -> None:
        self._answered.parts.append(part)

    def put_back(self, last_sequence: int) -> None:
        self._answered.put_back.append(last_sequence)

    def tried(self, reason: str, ids: list[str]) -> None:
        self._answered.tried.append((reason, ids))

    def expired(self, ids: list[str]) -> None:
        self._answered.expired += ids

    def erased(self, report: Report) -> None:
        self._answered.reports.append(report)


@asynccontextmanager
async def writing(
    folder: Path, reserve_bytes: int = RESERVE_BYTES, quarantine_max_bytes: int = 1 << 30
) -> AsyncIterator[tuple[SpoolWriter, Answered]]:
    """A writer at work, as the service has it."""
    writer = SpoolWriter(Spool(folder, reserve_bytes, DEVICE), quarantine_max_bytes)
    answered = Answered()
    running = asyncio.create_task(answered.listen_to(writer))
    try:
        yield writer, answered
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def running(writer: SpoolWriter, answered: Answered) -> AsyncIterator[None]:
    """A writer at work."""
    task = asyncio.create_task(answered.listen_to(writer))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
