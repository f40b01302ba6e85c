"""Who walks where and when: pure, from a seed."""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

WIDTH, HEIGHT = 1280, 720
"""Of a frame, in pixels."""
SCENE_S = 6.0
SIZES = (50.0, 70.0, 100.0, 140.0)
"""Of faces, in pixels."""

_CROWD_EVERY = 12
_LANES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A face in a frame: its centre and its height, in pixels."""

    x: float
    y: float
    size: float


Path = Callable[[float], Place]
"""Where somebody is, by the seconds since they began."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a scene.

    Attributes:
        name: unique among all scenes.
        act: what they do.
        face: whose face it is, of the cast.
        look: from which its colours and its side are drawn, so that two of one face differ.
        moments: when they are in view: seconds of the scene, first and last.
        path: where they are.
    """

    name: str
    act: str
    face: int
    look: int
    moments: tuple[tuple[float, float], ...]
    path: Path

    def at(self, second: float) -> Place | None:
        """Return where they are, or None while they are away."""
        is_there = any(first <= second < last for first, last in self.moments)
        return self.path(second - self.moments[0][0]) if is_there else None


@dataclass(frozen=True, slots=True)
class Scene:
    """A few people before one camera.

    Attributes:
        people: who they are.
        shake_px: how far the camera shakes (standard deviation), in pixels.
        seed: of what is drawn while it is staged.
    """

    people: tuple[Person, ...]
    shake_px: float
    seed: int


@dataclass(frozen=True, slots=True)
class _Stand:
    """What an act is made from: where it happens, and with whom."""

    chance: random.Random
    x: float
    y: float
    size: float
    side: int
    begin_s: float

    def still(self) -> Path:
        """Return the path of one who stands, and sways."""
        chance = self.chance
        pace, phase = chance.uniform(0.6, 3.0), chance.uniform(0, 2 * math.pi)
        far = self.size * chance.uniform(0, 0.15)
        return lambda second: Place(
            self.x + far * math.sin(pace * second + phase),
            self.y + far / 3 * math.cos(pace * second),
            self.size,
        )

    def straight(self, widths_per_s: float, *, before: float) -> Path:
        """Return the path of one who walks, from so many pixels before the place."""
        speed = self.side * self.size * widths_per_s
        begin_x = self.x - self.side * before
        return lambda second: Place(begin_x + speed * second, self.y, self.size)


_Part = tuple[tuple[tuple[float, float], ...], Path]
"""When somebody is there, and where."""


def _stands(stand: _Stand) -> list[_Part]:
    return [(((stand.begin_s, SCENE_S),), stand.still())]


def _walks(stand: _Stand) -> list[_Part]:
    return [(((stand.begin_s, SCENE_S),), stand.straight(stand.chance.uniform(1, 3), before=200))]


def _runs(stand: _Stand) -> list[_Part]:
    """Through the whole picture, at up to 2,000 pixels a second."""
    widths = min(stand.chance.uniform(5, 20), 2_000 / stand.size)
    before = stand.x + stand.size if stand.side > 0 else WIDTH - stand.x + stand.size
    lasts_s = (WIDTH + 2 * stand.size) / (widths * stand.size)
    return [(((stand.begin_s, stand.begin_s + lasts_s),), stand.straight(widths, before=before))]


def _passes(stand: _Stand) -> list[_Part]:
    """Out of one door and into the next."""
    path = stand.straight(stand.chance.uniform(2, 8), before=0)
    return [(((stand.begin_s, stand.begin_s + 0.35),), path)]


def _stops(stand: _Stand) -> list[_Part]:
    path = stand.straight(stand.chance.uniform(2, 4), before=200)
    stop_s, long_s = stand.chance.uniform(0.5, 1.5), stand.chance.uniform(0.5, 1.5)

    def stop_and_go(second: float) -> Place:
        return path(min(second, stop_s) + max(0.0, second - stop_s - long_s))

    return [(((stand.begin_s, SCENE_S),), stop_and_go)]


def _cross(stand: _Stand) -> list[_Part]:
    """Two who come from both sides, on one line."""
    moments = ((stand.begin_s, SCENE_S),)
    before = 3 * stand.size
    one = stand.straight(stand.chance.uniform(2, 5), before=before)
    back = stand.straight(-stand.chance.uniform(2, 5), before=-before)
    return [(moments, one), (moments, back)]


def _replace(stand: _Stand) -> list[_Part]:
    """One who leaves, and another in the same place after up to two seconds."""
    leaves_s = stand.begin_s + stand.chance.uniform(1.0, 2.5)
    comes_s = leaves_s + stand.chance.uniform(0.0, 2.0)
    return [
        (((stand.begin_s, leaves_s),), stand.still()),
        (((comes_s, SCENE_S),), stand.still()),
    ]


def _returns(stand: _Stand) -> list[_Part]:
    leaves_s = stand.begin_s + stand.chance.uniform(0.8, 2.0)
    comes_s = leaves_s + stand.chance.uniform(0.3, 1.5)
    return [(((stand.begin_s, leaves_s), (comes_s, SCENE_S)), stand.still())]


ACTS: Mapping[str, Callable[[_Stand], list[_Part]]] = MappingProxyType(
    {
        "stands": _stands,
        "walks": _walks,
        "runs": _runs,
        "passes": _passes,
        "stops": _stops,
        "crosses": _cross,
        "replaces": _replace,
        "returns": _returns,
    }
)


def scenes(seed: int, people: int, cast: int) -> Iterator[Scene]:
    """Yield scenes with so many people in all: mostly a few, every twelfth a crowd of thirty.

    Args:
        seed: the same seed, the same scenes.
        people: how many, at least.
        cast: of how many faces there are.
    """
    chance = random.Random(seed)
    made, number = 0, 0
    while made < people:
        make = _crowd if number % _CROWD_EVERY == _CROWD_EVERY - 1 else _few
        scene = make(chance, cast, made)
        yield scene
        made += len(scene.people)
        number += 1


def _few(chance: random.Random, cast: int, made: int) -> Scene:
    """Return a scene of one to three acts, each in a lane of its own."""
    people: list[Person] = []
    for lane in chance.sample(range(_LANES), chance.randint(1, _LANES)):
        act = chance.choice(list(ACTS))
        stand = _Stand(
            chance,
            x=chance.uniform(300, WIDTH - 300),
            y=130 + 230 * lane + chance.uniform(-20, 20),
            size=chance.choice(SIZES),
            side=chance.choice((-1, 1)),
            begin_s=chance.uniform(0, 1.5),
        )
        faces = chance.sample(range(cast), 2)
        for (moments, path), face in zip(ACTS[act](stand), faces, strict=False):
            name = str(made + len(people))
            people.append(Person(name, act, face, chance.getrandbits(30), moments, path))
    return Scene(tuple(people), chance.choice((0.0, 0.0, 0.0, 4.0)), chance.getrandbits(30))


def _crowd(chance: random.Random, cast: int, made: int) -> Scene:
    """Return a scene of thirty who stand."""
    people = []
    for number in range(30):
        row, column = divmod(number, 10)
        stand = _Stand(
            chance,
            x=70 + column * 126 + chance.uniform(-20, 20),
            y=140 + row * 220 + chance.uniform(-20, 20),
            size=chance.uniform(55, 80),
            side=1,
            begin_s=chance.uniform(0, 1),
        )
        [(moments, path)] = _stands(stand)
        face, look = chance.randrange(cast), chance.getrandbits(30)
        people.append(Person(str(made + number), "stands", face, look, moments, path))
    return Scene(tuple(people), 0.0, chance.getrandbits(30))
