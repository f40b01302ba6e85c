"""Whom fewer looks miss, against a look at each frame: pure."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.rigs.looks.rehearsal import Rehearsal, Sighting

LEAST_S = 0.3
"""Who is seen in frames that take less together may be missed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of visits that a look at each frame finds.

    Attributes:
        visits: how many there were, of `LEAST_S` or more.
        missed: who of them has no picture.
        late_s: of each of the others how much later its first picture is.
        shares: and the quality of its best picture in parts of the best sight of all frames.
        split: of how many people the visit fell into several.
        looks, frames: how many there were.
    """

    visits: int = 0
    missed: tuple[str, ...] = ()
    late_s: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    split: int = 0
    looks: int = 0
    frames: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        """Return both together."""
        return Outcome(
            self.visits + other.visits,
            self.missed + other.missed,
            self.late_s + other.late_s,
            self.shares + other.shares,
            self.split + other.split,
            self.looks + other.looks,
            self.frames + other.frames,
        )


def compare(every: Rehearsal, fewer: Rehearsal, before_s: float = math.inf) -> Outcome:
    """Return what fewer looks made of the visits that looks at each frame have found.

    Args:
        every: what looks at each frame have found.
        fewer: what fewer of them have.
        before_s: visits that begin later are left out: the scene ends when they have hardly begun.
    """
    expected, found = _by_person(every.sightings), _by_person(fewer.sightings)
    outcome = Outcome(looks=fewer.looks, frames=fewer.frames)
    for person, sightings in expected.items():
        is_visit = len(sightings) >= LEAST_S * every.frames_per_s
        is_whole = sightings[0].at_s < before_s
        if is_visit and is_whole and any(each.is_wanted for each in sightings):
            outcome += _one(person, sightings, found.get(person, []))
    return outcome


def _one(person: str, expected: list[Sighting], found: list[Sighting]) -> Outcome:
    pictures = [each for each in found if each.is_wanted]
    if not pictures:
        return Outcome(visits=1, missed=(person,))
    first = next(each for each in expected if each.is_wanted)
    best = max(each.quality for each in expected)
    return Outcome(
        visits=1,
        late_s=(max(0.0, pictures[0].at_s - first.at_s),),
        shares=(max(each.quality for each in pictures) / best,),
        split=int(len({each.visit for each in found}) > len({each.visit for each in expected})),
    )


def _by_person(sightings: Iterable[Sighting]) -> dict[str, list[Sighting]]:
    found: dict[str, list[Sighting]] = defaultdict(list)
    for each in sightings:
        found[each.person].append(each)
    return found
