"""The real pipeline under the same faults: what is stored of recordings must not depend on them."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.journal import JournalEntry
from tests.custody.comparison import objects_in
from tests.custody.faults import deck
from tests.custody.report import Event
from tests.custody.rig import Rig, rig
from tests.custody.run import held_by_forward, play

FINISHED_S = 150.0
"""How long it may take from the last fault on."""
_STILL_S = 2.5


@dataclass(frozen=True, slots=True)
class Played:
    """What a run left.

    Attributes:
        objects: the faces in the bucket, by key.
        answered: the ids that capture was told of, all of which must be in it.
        events: the faults that happened.
        crashes: how often each service ended by itself.
        seconds: how long it took.
    """

    objects: Mapping[str, bytes]
    answered: frozenset[str]
    events: tuple[Event, ...]
    crashes: Mapping[str, int]
    seconds: float


async def play_clips(
    folder: Path,
    s3_program: str,
    clips: Mapping[str, Path],
    *,
    seed: int = 0,
    faults: int = 0,
    seconds: float = 0,
    keep: str = "every",
) -> Played:
    """Play recordings to their ends, every frame of them.

    Args:
        folder: empty.
        s3_program: versitygw.
        clips: a recording for each camera's name.
        seed: what the faults come from.
        faults: how many happen.
        seconds: over about how long.
        keep: which faces are wanted: `every` or `visits`.
    """
    rng = random.Random(seed)
    cameras = "\n".join(f"{name}={path.absolute().as_uri()}?paced=1" for name, path in clips.items())
    started_s = time.monotonic()
    events: list[Event] = []
    async with rig(folder, s3_program, cameras, keep) as stage:
        if faults:
            await play(stage, deck(rng, faults, stage), rng, events, seconds / faults)
        answered = await _finished(stage, set(clips))
        objects = {key: path.read_bytes() for key, path in objects_in(stage.objects).items()}
        crashes = {name: part.crashes for name, part in stage.services.items()}
        return Played(objects, answered, tuple(events), crashes, time.monotonic() - started_s)


async def _finished(stage: Rig, cameras: set[str]) -> frozenset[str]:
    """Wait until all recordings are answered and forward holds nothing; return the ids answered."""
    deadline_s = time.monotonic() + FINISHED_S
    still_since_s: float | None = None
    while True:
        finished, answered = _read(stage.journal)
        is_still = finished == cameras and await held_by_forward(stage) == 0
        now_s = time.monotonic()
        still_since_s = (still_since_s or now_s) if is_still else None
        # The gauge is set once a second: what it says is older than what it is asked for.
        if still_since_s is not None and now_s - still_since_s > _STILL_S:
            return answered
        if now_s > deadline_s:
            raise TimeoutError(f"of {sorted(cameras)} only {sorted(finished)} have been played to the end")
        await asyncio.sleep(0.2)


def _read(journal: Path) -> tuple[set[str], frozenset[str]]:
    """Return which cameras have finished, and all ids answered; a half-written last line is left out."""
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
    entries = [JournalEntry.read(line) for line in lines]
    finished = {entry.source for entry in entries if entry.is_finished}
    return finished, frozenset(face_id for entry in entries for face_id in entry.faces)
