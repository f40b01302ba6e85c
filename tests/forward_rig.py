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
from services.forward.spool.commands import Answers, BacklogPart, BacklogRead
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

    @property
    def answers(self) -> Answers:
        return Answers(
            written=lambda faces, _added: self.written.extend(faces),
            turned_away=self.turned_away.extend,
            read=lambda _read, part: self.parts.append(part),
            put_back=self.put_back.append,
            tried=lambda reason, ids: self.tried.append((reason, ids)),
            expired=self.expired.extend,
        )


@asynccontextmanager
async def writing(
    folder: Path, reserve_bytes: int = RESERVE_BYTES, quarantine_max_bytes: int = 1 << 30
) -> AsyncIterator[tuple[SpoolWriter, Answered]]:
    """A writer at work, as the service has it."""
    writer = SpoolWriter(Spool(folder, reserve_bytes, DEVICE), quarantine_max_bytes)
    answered = Answered()
    running = asyncio.create_task(writer.run(answered.answers))
    try:
        yield writer, answered
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def running(writer: SpoolWriter, answered: Answered, reports: list[Report]) -> AsyncIterator[None]:
    """A writer at work, and what it reports of orders to erase."""
    task = asyncio.create_task(writer.run(replace(answered.answers, erased=reports.append)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
