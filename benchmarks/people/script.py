"""Who walks where and when: pure, from a seed."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

WIDTH, HEIGHT = 1280, 720
SCENE_S = 6.0
KINDS = ("stands", "walks", "runs", "passes", "stops", "crosses", "replaces", "returns")


@dataclass(frozen=True, slots=True)
class Box:
    """A face in pixels of the frame: its centre, and its height."""

    x: float
    y: float
    size: float


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a scene.

    Attributes:
        name: unique among all scenes.
        kind: what they do.
        face: whose face it is, of the cast.
        look: from which the colours and the side are drawn, so that two of one face differ.
        moments: when they are in view, seconds from the scene's begin, first and last.
        path: where they are, by the seconds since their begin.
    """

    name: str
    kind: str
    face: int
    look: int
    moments: tuple[tuple[float, float], ...]
    path: Callable[[float], Box]

    def at(self, second: float) -> Box | None:
        """Return where they are; nothing while they are away."""
        if any(first <= second < last for first, last in self.moments):
            return self.path(second - self.moments[0][0])
        return None


@dataclass(frozen=True, slots=True)
class Scene:
    """A few people before one camera.

    Attributes:
        people: who they are.
        shake_px: how far the camera shakes.
        seed: of what is drawn while it is staged.
    """

    people: tuple[Person, ...]
    shake_px: float
    seed: int


def scenes(seed: int, people: int, cast: int) -> Iterator[Scene]:
    """Yield scenes with so many people in all.

    Args:
        seed: the same seed, the same scenes.
        people: how many, at least.
        cast: of how many faces there are.
    """
    chance = random.Random(seed)
    made = 0
    number = 0
    while made < people:
        scene = _crowd(chance, cast, made) if number % 12 == 11 else _few(chance, cast, made)
        yield scene
        made += len(scene.people)
        number += 1


def _few(chance: random.Random, cast: int, made: int) -> Scene:
    """Return a scene of up to four, each in a lane of their own, or two in one where they meet."""
    lanes = list(range(3))
    chance.shuffle(lanes)
    people: list[Person] = []
    for lane in lanes[: chance.randint(1, 3)]:
        people += _act(chance, cast, lane, made + len(people))
    return Scene(tuple(people), chance.choice((0.0, 0.0, 0.0, 4.0)), chance.randrange(1 << 30))


def _crowd(chance: random.Random, cast: int, made: int) -> Scene:
    """Return a scene of thirty who stand or sway."""
    people = []
    for row in range(3):
        for column in range(10):
            x, y = 70 + column * 126 + chance.uniform(-20, 20), 140 + row * 220 + chance.uniform(-20, 20)
            size = chance.uniform(55, 80)
            name = f"{made + len(people)}"
            begin = chance.uniform(0, 1)
            people.append(
                Person(
                    name,
                    "stands",
                    chance.randrange(cast),
                    chance.randrange(1 << 30),
                    ((begin, SCENE_S),),
                    _sway(chance, Box(x, y, size)),
                )
            )
    return Scene(tuple(people), 0.0, chance.randrange(1 << 30))


def _act(chance: random.Random, cast: int, lane: int, first: int) -> list[Person]:
    y = 130.0 + 230 * lane + chance.uniform(-20, 20)
    size = chance.choice((50.0, 70.0, 100.0, 140.0))
    kind = chance.choice(KINDS)
    side = chance.choice((-1, 1))
    faces = chance.sample(range(cast), 2)

    def person(index: int, moments: tuple[tuple[float, float], ...], path: Callable[[float], Box]) -> Person:
        look = chance.randrange(1 << 30)
        return Person(f"{first + index}", kind, faces[index], look, moments, path)

    def straight(speed: float, begin_x: float | None = None) -> Callable[[float], Box]:
        start = begin_x if begin_x is not None else (-size if side > 0 else WIDTH + size)
        return lambda second: Box(start + side * speed * second, y, size)

    begin = chance.uniform(0, 1.5)
    middle = chance.uniform(300, WIDTH - 300)
    match kind:
        case "stands":
            return [person(0, ((begin, SCENE_S),), _sway(chance, Box(middle, y, size)))]
        case "walks":
            speed = size * chance.uniform(1.0, 3.0)
            return [person(0, ((begin, SCENE_S),), straight(speed, middle - side * 200))]
        case "runs":
            speed = min(2_000.0, size * chance.uniform(5.0, 20.0))
            return [person(0, ((begin, begin + (WIDTH + 2 * size) / speed),), straight(speed))]
        case "passes":
            # Out of a door and into the next.
            speed = size * chance.uniform(2.0, 8.0)
            return [person(0, ((begin, begin + 0.35),), straight(speed, middle))]
        case "stops":
            speed = size * chance.uniform(2.0, 4.0)
            stop, long = chance.uniform(0.5, 1.5), chance.uniform(0.5, 1.5)
            return [
                person(0, ((begin, SCENE_S),), _stop_and_go(straight(speed, middle - side * 200), stop, long))
            ]
        case "crosses":
            speed = size * chance.uniform(2.0, 5.0)
            back = chance.uniform(2.0, 5.0) * size
            way = 3 * size
            return [
                person(
                    0, ((begin, SCENE_S),), lambda s: Box(middle - side * way + side * speed * s, y, size)
                ),
                person(1, ((begin, SCENE_S),), lambda s: Box(middle + side * way - side * back * s, y, size)),
            ]
        case "replaces":
            leaves = chance.uniform(1.0, 2.5)
            comes = begin + leaves + chance.uniform(0.0, 2.0)
            place = Box(middle, y, size)
            return [
                person(0, ((begin, begin + leaves),), _sway(chance, place)),
                person(1, ((comes, SCENE_S),), _sway(chance, place)),
            ]
        case _:
            leaves, away = chance.uniform(0.8, 2.0), chance.uniform(0.3, 1.5)
            moments = ((begin, begin + leaves), (begin + leaves + away, SCENE_S))
            return [person(0, moments, _sway(chance, Box(middle, y, size)))]


def _sway(chance: random.Random, place: Box) -> Callable[[float], Box]:
    import math

    pace, phase, far = chance.uniform(0.1, 0.5), chance.uniform(0, 6.3), chance.uniform(0, 0.15)
    return lambda second: Box(
        place.x + place.size * far * math.sin(6.283 * pace * second + phase),
        place.y + place.size * far / 3 * math.cos(6.283 * pace * second),
        place.size,
    )


def _stop_and_go(path: Callable[[float], Box], stop: float, long: float) -> Callable[[float], Box]:
    return lambda second: path(min(second, stop) + max(0.0, second - stop - long))
