"""When a run over recordings is over, and what came of it."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from services.forward.database import connect_to_read
from services.forward.spool import DATABASE
from services.up.journal import Journal

POLL_S = 0.1
_DETECTOR = re.compile(r'^faceferry_detect_detector_info\{.*?detector="([^"]+)".*\} 1', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What forward's spool holds: how many faces, and the ids of those the store has refused."""

    faces: int
    refused: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        frames: frames answered.
        faces: distinct faces in the answers.
        stored: how many of exactly those are in the store.
        refused: how many of them the store has refused.
        seconds: how long it took.
        detector: which one worked.
        store: where the faces are.
    """

    frames: int
    faces: int
    stored: int
    refused: int
    seconds: float
    detector: str
    store: str

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object that `--json` prints."""
        return asdict(self)

    @property
    def is_complete(self) -> bool:
        """Whether every face is in the store."""
        return self.stored == self.faces and self.refused == 0


class NothingMoves(Exception):
    """The run should go on and does not."""


def held(spool: Path) -> Held | None:
    """Return what a spool holds, from a look into its database; nothing if there is none yet."""
    path = spool / DATABASE
    if not path.exists():
        return None
    try:
        with closing(connect_to_read(path, timeout_s=1.0)) as connection:
            (faces,) = connection.execute("SELECT count(*) FROM faces").fetchone()
            refused = connection.execute("SELECT id FROM quarantine").fetchall()
    except sqlite3.OperationalError:
        return None  # just being made, or replaced
    return Held(faces, frozenset(face_id for (face_id,) in refused))


async def finish(
    journal: Journal, spool: Path, timeout_s: float, progress: Callable[[Journal, int], None]
) -> None:
    """Wait until every source has its last answer and the spool is empty.

    Raises:
        NothingMoves: neither a frame was answered nor a face left the spool for `timeout_s`.
    """
    seen: object = None
    moved_s = time.monotonic()
    while True:
        journal.follow()
        now = held(spool)
        waiting = now.faces if now is not None else 0
        progress(journal, waiting)
        if journal.is_finished and now is not None and waiting == 0:
            return
        if (state := (journal.frames, waiting, journal.is_finished)) != seen:
            seen, moved_s = state, time.monotonic()
        elif time.monotonic() - moved_s > timeout_s:
            raise NothingMoves(
                f"nothing moved for {timeout_s:.0f} s: {journal.frames} frames answered, {waiting} faces wait"
            )
        await asyncio.sleep(POLL_S)


async def detector_of(port: int) -> str:
    """Return which detector works, from detect's own metrics; empty while it does not say."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            found = _DETECTOR.search(await response.text())
    except (aiohttp.ClientError, TimeoutError):
        return ""
    return found[1] if found else ""
