"""Faces of real clips over a real room: frames with known truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from services.detect.codec import BgrImage
from services.forward.visits.matching import Box
from tests.rigs.people.script import SCENE_S, Person, Scene

MARGIN = 0.45
"""How much more than the face a picture of the cast shows on each side, in parts of its size."""
PICTURES_PER_S = 12.0
"""How fast faces move by themselves."""
NOISE = 2.0
"""Of the sensor: the standard deviation, of 255."""

_LEAST_PX = 8


@dataclass(frozen=True, slots=True)
class Shown:
    """A face as it is in a frame: whose, and where, in pixels."""

    person: str
    box: Box


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame of a scene, who is in it, and when."""

    at_s: float
    picture: BgrImage
    shown: tuple[Shown, ...]


def stage(
    scene: Scene,
    cast: Sequence[Sequence[BgrImage]],
    room: BgrImage,
    frames_per_s: float,
    seconds: float = SCENE_S,
) -> Iterator[Shot]:
    """Yield a scene's frames.

    Args:
        scene: who is there.
        cast: of each face its pictures, one after the other, with `MARGIN` around the face.
        room: the background, as large as a frame; not modified.
        frames_per_s: how many of them.
        seconds: how long it takes.
    """
    chance = np.random.default_rng(scene.seed)
    for number in range(int(seconds * frames_per_s)):
        at_s = number / frames_per_s
        x, y = (float(value) for value in chance.normal(0, 1, 2) * scene.shake_px)
        picture = np.roll(room, (round(y), round(x)), (0, 1))
        shown = [_show(picture, person, cast[person.face], at_s, (x, y)) for person in scene.people]
        noisy = picture + chance.normal(0, NOISE, picture.shape[:2])[..., None]
        is_there = tuple(face for face in shown if face is not None)
        yield Shot(at_s, np.clip(noisy, 0, 255).astype(np.uint8), is_there)


def _show(
    picture: BgrImage, person: Person, faces: Sequence[BgrImage], at_s: float, shift: tuple[float, float]
) -> Shown | None:
    place = person.at(at_s)
    if place is None:
        return None
    face = dressed(faces, person.look, at_s)
    box = paste(picture, face, place.x + shift[0], place.y + shift[1], place.size)
    return None if box is None else Shown(person.name, box)


def dressed(faces: Sequence[BgrImage], look: int, at_s: float) -> BgrImage:
    """Return the face of a moment: its pictures to and fro, in colours and on a side of its own."""
    turn = (int(at_s * PICTURES_PER_S) + look) % (2 * len(faces) - 2)
    face = faces[turn if turn < len(faces) else 2 * len(faces) - 2 - turn]
    own = np.random.default_rng(look)
    gains = own.uniform(0.75, 1.15) * own.uniform(0.93, 1.07, 3)
    sided = face[:, ::-1] if look % 2 else face
    return np.clip(sided * gains, 0, 255).astype(np.uint8)


def paste(picture: BgrImage, face: BgrImage, x: float, y: float, size: float) -> Box | None:
    """Put a face into a picture so that it is `size` high at this centre; return its box if it is in view."""
    down, across = picture.shape[:2]
    height, width = face.shape[:2]
    scale = size * (1 + 2 * MARGIN) / height
    wide, high = max(_LEAST_PX, round(width * scale)), max(_LEAST_PX, round(height * scale))
    left, top = round(x - wide / 2), round(y - high / 2)
    from_x, to_x = max(0, -left), min(wide, across - left)
    from_y, to_y = max(0, -top), min(high, down - top)
    if min(to_x - from_x, to_y - from_y) < _LEAST_PX:
        return None
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(face, (wide, high), interpolation=interpolation)[from_y:to_y, from_x:to_x]
    mask = _oval(wide, high)[from_y:to_y, from_x:to_x]
    part = picture[top + from_y : top + to_y, left + from_x : left + to_x]
    part[:] = (scaled * mask + part * (1 - mask)).astype(np.uint8)
    inner = wide / (1 + 2 * MARGIN), high / (1 + 2 * MARGIN)
    return x - inner[0] / 2, y - inner[1] / 2, *inner


@cache
def _oval(width: int, height: int) -> npt.NDArray[np.float32]:
    """Return how much of a face is seen: (H, W, 1), 1 within an oval, less towards its edge, 0 outside."""
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    return np.clip((1 - np.hypot(x, y)) / 0.15, 0, 1).astype(np.float32)[..., None]
