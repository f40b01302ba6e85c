"""Waits for the end of a run over recordings, and its outcome, from capture's journal and forward's spool."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.common.journal import JournalEntry
from services.forward.spool.database import connect_to_read
from services.forward.spool.disk import DATABASE
from services.up.blocked import samples_of

POLL_S = 0.1


@dataclass(slots=True)
class SourceProgress:
    """The progress of one source.

    Attributes:
        frames: how many it has; None until that is known.
        answers: the ids of the faces of each answered frame, by its number.
        is_finished: whether its last frame was answered.
    """

    frames: int | None = None
    answers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    is_finished: bool = False


class JournalFollower:
    """Follows the journal that capture writes, and starts over when capture does.

    Args:
        path: the file; it need not exist yet.
        sources: the names of the sources of the run.
    """

    def __init__(self, path: Path, sources: list[str]) -> None:
        self._path = path
        self._offset = 0
        self._names = sources
        self._sources = {name: SourceProgress() for name in sources}

    def follow(self) -> None:
        """Read new lines."""
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
        """Number of answered frames."""
        return sum(len(source.answers) for source in self._sources.values())

    @property
    def all_frames(self) -> int | None:
        """Number of frames of all sources; None until every source has given its number."""
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
class SpoolContents:
    """The contents of forward's spool: the number of faces, and the ids of those the store refused."""

    faces: int
    refused: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        frames: number of answered frames.
        faces: number of distinct faces in the answers.
        stored: how many of these are in the store.
        refused: how many of these the store refused.
        seconds: duration of the run.
        detector: the detector that was used; `""` where that is not known.
        store: the store's URL.
        sights: faces seen in all frames; None where every face is kept.
        visits: number of visits; None where every face is kept.
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
        """Return the outcome as one line of text."""
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
    """A run made no progress for too long; the message says how far it is."""


def spool_contents(spool: Path) -> SpoolContents | None:
    """Return the contents of a spool, read from its database, or None if there is none yet."""
    path = spool / DATABASE
    if not path.exists():
        return None
    try:
        with closing(connect_to_read(path, timeout_s=1.0)) as connection:
            (faces,) = connection.execute("SELECT count(*) FROM faces").fetchone()
            refused = connection.execute("SELECT id FROM quarantine").fetchall()
    except sqlite3.OperationalError:
        return None  # just being made, or replaced
    return SpoolContents(faces, frozenset(face_id for (face_id,) in refused))


async def finish(
    journal: JournalFollower, spool: Path, timeout_s: float, progress: Callable[[JournalFollower, int], None]
) -> None:
    """Wait until the last frame of every source is answered and the spool is empty.

    Args:
        journal: of the run.
        spool: its folder.
        timeout_s: seconds without any progress after which it gives up.
        progress: is called with the journal and the number of faces that wait, at each poll.

    Raises:
        NoProgress: neither a frame was answered nor a face left the spool for `timeout_s`.
    """
    seen: object = None
    moved_s = time.monotonic()
    while True:
        journal.follow()
        now = spool_contents(spool)
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
    """Return the detector in use, from detect's metrics; `""` where it does not answer."""
    found = (await samples_of(port)).of("faceferry_detect_detector_info")
    return next((labels["detector"] for labels, value in found if value == 1), "")


async def sights_and_visits(port: int) -> tuple[int | None, int | None]:
    """Return how many faces forward was asked about and of how many visits; None for both if it is silent."""
    samples = await samples_of(port)
    if not samples.of("faceferry_forward_sights_total"):
        return None, None
    visits = samples.total("faceferry_forward_wanted_total", why="first")
    return int(samples.total("faceferry_forward_sights_total")), int(visits)
