"""What became of each person: pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.common.wire.seen import SeenFace
from services.forward.visits.matching import intersection_over_union
from tests.rigs.people.stage import Shown

SEEN = 3
"""Who is seen so often has to have a picture of their own."""
MADE_TO_BE_ONE = frozenset({"replaces"})
"""Acts in which two people make one visit: in the same place, within its gap."""

_LEAST_OVERLAP = 0.25


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of people; those seen less than `SEEN` times count nowhere.

    Attributes:
        people: who was seen.
        nobodies: of them those without a picture of their own, by act.
        pictures: of them.
        split: those whose sights are of more than one visit.
        merged: visits of more than one of them, apart from those made to be one.
        visits: how many there were.
        strangers: pictures of what is no face at all.
    """

    people: int = 0
    nobodies: Counter[str] = field(default_factory=Counter)
    pictures: int = 0
    split: int = 0
    merged: int = 0
    visits: int = 0
    strangers: int = 0

    def __add__(self, other: "Verdict") -> "Verdict":
        """Return both counts together."""
        return Verdict(
            people=self.people + other.people,
            nobodies=self.nobodies + other.nobodies,
            pictures=self.pictures + other.pictures,
            split=self.split + other.split,
            merged=self.merged + other.merged,
            visits=self.visits + other.visits,
            strangers=self.strangers + other.strangers,
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """One sight of a scene: whose it is, its visit, and whether its picture was wanted."""

    person: str | None
    visit: str
    is_wanted: bool


def whose(sights: Sequence[SeenFace], shown: Iterable[Shown]) -> list[str | None]:
    """Return of each sight whose face it is, the best fitting first, or None of what is nobody's."""
    pairs = [
        (intersection_over_union(sight.box, face.box), index, face.person)
        for index, sight in enumerate(sights)
        for face in shown
    ]
    found: dict[int, str] = {}
    for overlap, index, person in sorted(pairs, reverse=True):
        if overlap > _LEAST_OVERLAP and index not in found and person not in found.values():
            found[index] = person
    return [found.get(index) for index in range(len(sights))]


def judge(watched: Iterable[Watched], acts: Mapping[str, str]) -> Verdict:
    """Return what became of a scene's people.

    Args:
        watched: all sights of the scene.
        acts: what each person does, by name.
    """
    seen, pictures = Counter[str](), Counter[str]()
    visits: dict[str, Counter[str]] = defaultdict(Counter)
    strangers = 0
    for each in watched:
        if each.person is None:
            strangers += each.is_wanted
            continue
        seen[each.person] += 1
        pictures[each.person] += each.is_wanted
        visits[each.visit][each.person] += 1
    people = [person for person, times in seen.items() if times >= SEEN]
    return Verdict(
        people=len(people),
        nobodies=Counter(acts[person] for person in people if not pictures[person]),
        pictures=sum(pictures[person] for person in people),
        split=sum(_is_split(person, visits.values()) for person in people),
        merged=sum(_is_merged(owners, acts) for owners in visits.values()),
        visits=len(visits),
        strangers=strangers,
    )


def _is_split(person: str, visits: Iterable[Counter[str]]) -> bool:
    return sum(person in owners for owners in visits) > 1


def _is_merged(owners: Counter[str], acts: Mapping[str, str]) -> bool:
    people = [person for person, times in owners.items() if times >= SEEN]
    return len(people) > 1 and not all(acts[person] in MADE_TO_BE_ONE for person in people)
