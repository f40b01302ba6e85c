"""Who comes, when, how large and how fast: pure, from a seed."""

import math
import random
from dataclasses import dataclass

FRAMES_PER_S = 30.0
SIZES = ((640, 360), (1280, 720), (1920, 1080))
"""Of frames, in pixels."""
LEAST_PX, MOST_PX = 11.0, 200.0
"""Of faces, at the detector's scale: 640 pixels across."""
DETECTION_PX = 640
RUN_WIDTHS_PER_S = 30.0
"""Three face widths in a tenth of a second."""

_MOST_STILL_S = 6.0
_MOST_THERE_S = 1.5


@dataclass(frozen=True, slots=True)
class Trial:
    """Somebody comes before a camera, and is gone again.

    Attributes:
        number: which trial it is; what is drawn while it is played comes from it.
        size: of the frames, in pixels.
        clip: the number of the clip that is behind.
        moment: where in the clip it begins, 0..1.
        is_frozen: whether the clip stands still.
        act: `stands`, `walks` or `runs`.
        face: whose face it is, of the cast.
        look: from which its colours and its side are drawn.
        face_px: its height, in pixels of the frame.
        comes_s, goes_s: when it is there.
        place: its centre when it comes, in pixels.
        speed: in pixels a second, to the right and down.
        noise: of the sensor: the standard deviation, of 255.
        quality: of the JPEGs.
    """

    number: int
    size: tuple[int, int]
    clip: int
    moment: float
    is_frozen: bool
    act: str
    face: int
    look: int
    face_px: float
    comes_s: float
    goes_s: float
    place: tuple[float, float]
    speed: tuple[float, float]
    noise: float
    quality: int

    def at(self, second: float) -> tuple[float, float] | None:
        """Return the centre of the face, or None while nobody is there."""
        if not self.comes_s <= second < self.goes_s:
            return None
        after_s = second - self.comes_s
        return self.place[0] + self.speed[0] * after_s, self.place[1] + self.speed[1] * after_s


def trial(number: int, seed: int, clips: int, cast: int) -> Trial:
    """Return a trial; the same for the same number and seed.

    Args:
        number: which.
        seed: of all trials.
        clips: how many clips there are.
        cast: how many faces.
    """
    chance = random.Random(f"{seed} {number}")
    size = width, height = chance.choice(SIZES)
    face_px = math.exp(chance.uniform(math.log(LEAST_PX), math.log(MOST_PX))) * width / DETECTION_PX
    act = chance.choice(("stands", "walks", "runs"))
    comes_s = chance.uniform(0.3, _MOST_STILL_S)
    side = chance.choice((-1, 1))
    if act == "runs":
        # From edge to edge, or as far as there is time for.
        place = (-face_px / 2 if side > 0 else width + face_px / 2, chance.uniform(0.2, 0.8) * height)
        widths_per_s = min(RUN_WIDTHS_PER_S, (width + face_px) / face_px / 0.4)
    else:
        place = chance.uniform(0.1, 0.9) * width, chance.uniform(0.2, 0.8) * height
        widths_per_s = 0.0 if act == "stands" else chance.uniform(0.5, 3.0)
    speed = side * widths_per_s * face_px, chance.uniform(-0.1, 0.1) * widths_per_s * face_px
    return Trial(
        number=number,
        size=size,
        clip=chance.randrange(clips),
        moment=chance.random(),
        is_frozen=chance.random() < 0.7,
        act=act,
        face=chance.randrange(cast),
        look=chance.getrandbits(30),
        face_px=face_px,
        comes_s=comes_s,
        goes_s=comes_s + chance.uniform(0.3, _MOST_THERE_S),
        place=place,
        speed=speed,
        noise=chance.choice((0.5, 2.0, 4.0)),
        quality=chance.choice((70, 85, 95)),
    )
