"""Who walks along a street: pure, from a seed."""

import random

from tests.rigs.people.script import Person, Place, Scene

STREET = 1920, 1080
"""Of a frame, in pixels."""
STREET_S = 10.0

_LANES, _STREAMS = 5, 8
_SIZES = (85.0, 140.0)
_WALKING = (0.5, 3.0)
"""Face widths a second; some go twice as fast."""


def street(seed: int, cast: int) -> Scene:
    """Return a street with six faces a frame: somebody walks in each of some lanes, and soon somebody else.

    Args:
        seed: the same seed, the same street.
        cast: of how many faces there are.
    """
    chance = random.Random(seed)
    people: list[Person] = []
    for stream in range(_STREAMS):
        begin_s = -chance.uniform(0.5, 5.0)
        for number in range(100):
            person = _walker(chance, stream % _LANES, f"{stream}.{number}", cast, begin_s)
            people.append(person)
            begin_s = person.moments[0][1] + chance.uniform(0.2, 1.0)
            if begin_s > STREET_S:
                break
    return Scene(tuple(people), 0.0, seed)


def _walker(chance: random.Random, lane: int, name: str, cast: int, begin_s: float) -> Person:
    width, height = STREET
    size = chance.uniform(*_SIZES)
    speed = size * chance.uniform(*_WALKING) * chance.uniform(1, 2)
    side = chance.choice((-1, 1))
    y = height * (lane + 0.6) / _LANES + chance.uniform(-15, 15)
    lasts_s = (width + 2 * size) / speed

    def path(second: float) -> Place:
        way = speed * second - size
        return Place(way if side > 0 else width - way, y, size)

    moments = ((begin_s, begin_s + lasts_s),)
    return Person(name, "walks", chance.randrange(cast), chance.getrandbits(30), moments, path)
