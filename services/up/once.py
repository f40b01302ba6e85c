"""When a run over recordings is over, and what came of it: as capture's journal and forward's spool tell."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.common.journal import JournalEntry
from services.forward.spool.database import connect_to_read
from services.forward.spool.disk import DATABASE
from services.up.blocked import ask

POLL_S = 0.1
_DETECTOR = re.compile(r'^faceferry_detect_detector_info\{.*?detector="([^"]+)".*\} 1', re.MULTILINE)

_SIGHTS = re.compile(r"^faceferry_forward_sights_total (\S+)", re.MULTILINE)
_VISITS = re.compile(r'^faceferry_forward_wanted_total\{why="first"\} (\S+)', re.MULTILINE)


@dataclass(slots=True)
class SourceProgress:
    """How far one source is."""

    frames: int | None = None
    answers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    is_finished: bool = False


class Journal:
    """Follows the journal that capture writes, and starts over when capture does.

    Args:
        path: the file; it need not be there yet.
        sources: the names of the sources that have to finish.
    """

    def __init__(self, path: Path, sources: list[str]) -> None:
        self._path = path
        self._offset = 0
        self._names = sources
        self._sources = {name: SourceProgress() for name in sources}

    def follow(self) -> None:
        """Read what is new."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size < self._offset:
            self._offset = 0
            self._sources = {name: SourceProgress() for name in self._names}
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        end = text.rfind(b"\n") + 1  # the last line may still be written
        self._offset += end
        for line in text[:end].splitlines():
            self._note(JournalEntry.read(line))

    @property
    def frames(self) -> int:
        """How many frames have been answered."""
        return sum(len(source.answers) for source in self._sources.values())

    @property
    def all_frames(self) -> int | None:
        """How many there are, once every source has told."""
        totals = [source.frames for source in self._sources.values()]
        return sum(total for total in totals if total is not None) if None not in totals else None

    @property
    def faces(self) -> dict[str, str]:
        """The distinct ids in the answers, each with its source's name."""
        return {
            face: name
            for name, source in self._sources.items()
            for answer in source.answers.values()
            for face in answer
        }

    @property
    def is_finished(self) -> bool:
        """Whether every source has its last answer."""
        return all(source.is_finished for source in self._sources.values())

    def _note(self, entry: JournalEntry) -> None:
        source = self._sources.get(entry.source)
        if source is None:
            return
        if entry.frame is not None:
            source.answers[entry.frame] = entry.faces
        if entry.is_finished:
            source.is_finished = True
        if entry.frames is not None:
            source.frames = entry.frames


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
        faces: distinct faces in the answers: those that were wanted.
        stored: how many of exactly those are in the store.
        refused: how many of them the store has refused.
        seconds: how long it took.
        detector: which one worked.
        store: where the faces are.
        sights: faces seen in all frames, where a few of each visit are kept.
        visits: how many there were, likewise.
    """

    frames: int
    faces: int
    stored: int
    refused: int
    seconds: float
    detector: str
    store: str
    sights: int | None = None
    visits: int | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object that `--json` prints."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def as_text(self) -> str:
        """Return the line that everybody sees."""
        seen = "" if self.visits is None else f"{self.sights} sights, {self.visits} visits, "
        return (
            f"{self.frames} frames, {seen}{self.faces} faces, {self.stored} stored, {self.refused} refused "
            f"in {self.seconds:.1f} s by {self.detector or 'an unknown detector'}: {self.store}"
        )

    @property
    def is_complete(self) -> bool:
        """Whether every face is in the store."""
        return self.stored == self.faces and self.refused == 0


class NoProgress(Exception):
    """The run should go on and does not; how far it is."""


def held(spool: Path) -> Held | None:
    """Return what a spool holds, from a look into its database, or None if there is none yet."""
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
        NoProgress: neither a frame was answered nor a face left the spool for `timeout_s`.
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
            raise NoProgress(
                f"no progress for {timeout_s:.0f} s, {journal.frames} frames answered, {waiting} faces wait"
            )
        await asyncio.sleep(POLL_S)


async def detector_of(port: int) -> str:
    """Return which detector works, from detect's own metrics; empty while it does not say."""
    found = _DETECTOR.search(await ask(port, "metrics"))
    return found[1] if found else ""


async def sights_and_visits(port: int) -> tuple[int | None, int | None]:
    """Return of how many faces forward was asked, and the visits it made of them, or None if it is mute."""
    metrics = await ask(port, "metrics")
    sights, visits = _SIGHTS.search(metrics), _VISITS.search(metrics)
    if sights is None:
        return None, None
    return int(float(sights[1])), int(float(visits[1])) if visits else 0
