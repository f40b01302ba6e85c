"""Faces of real clips over a real room: frames with known truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.people.script import HEIGHT, SCENE_S, WIDTH, Person, Scene
from services.detect.pictures import Picture

MARGIN = 0.45
Mask = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shown:
    """A face as it is in a frame: box in pixels, left, top, width, height."""

    person: str
    box: tuple[float, float, float, float]


def stage(
    scene: Scene, cast: list[list[Picture]], room: Picture, frames_per_s: float
) -> Iterator[tuple[float, Picture, list[Shown]]]:
    """Yield the seconds, the picture and who is in it, frame by frame.

    Args:
        scene: who.
        cast: of each face its pictures, 30 a second, with `MARGIN` around the face.
        room: the background, of the scene's size.
        frames_per_s: how many.
    """
    chance = np.random.default_rng(scene.seed)
    for number in range(int(SCENE_S * frames_per_s)):
        second = number / frames_per_s
        shake = chance.normal(0, scene.shake_px, 2) if scene.shake_px else np.zeros(2)
        picture = np.roll(room, (int(shake[1]), int(shake[0])), (0, 1)) if scene.shake_px else room.copy()
        shown = []
        for person in scene.people:
            place = person.at(second)
            if place is None:
                continue
            face = _dressed(person, cast, second)
            box = _paste(picture, face, place.x + shake[0], place.y + shake[1], place.size)
            if box is not None:
                shown.append(Shown(person.name, box))
        noise = chance.normal(0, 2, picture.shape[:2])[..., None]
        yield second, np.clip(picture + noise, 0, 255).astype(np.uint8), shown


def _dressed(person: Person, cast: list[list[Picture]], second: float) -> Picture:
    pictures = cast[person.face]
    rate = 12.0
    at = int(second * rate + person.look) % (2 * len(pictures) - 2)
    picture = pictures[at if at < len(pictures) else 2 * len(pictures) - 2 - at]
    if person.look % 2:
        picture = picture[:, ::-1]
    own = np.random.default_rng(person.look)
    gains = own.uniform(0.75, 1.15) * own.uniform(0.93, 1.07, 3)
    return np.clip(picture * gains, 0, 255).astype(np.uint8)


def _paste(
    picture: Picture, face: Picture, x: float, y: float, size: float
) -> tuple[float, float, float, float] | None:
    """Put a face with its margin so that it is `size` high at this centre; return its box if it is in view."""
    height, width = face.shape[:2]
    scale = size * (1 + 2 * MARGIN) / height
    wide, high = max(8, round(width * scale)), max(8, round(height * scale))
    left, top = round(x - wide / 2), round(y - high / 2)
    from_x, from_y = max(0, -left), max(0, -top)
    to_x, to_y = min(wide, WIDTH - left), min(high, HEIGHT - top)
    if to_x - from_x < 8 or to_y - from_y < 8:
        return None
    shape = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(face, (wide, high), interpolation=shape)[from_y:to_y, from_x:to_x]
    mask = _oval(wide, high)[from_y:to_y, from_x:to_x]
    part = picture[top + from_y : top + to_y, left + from_x : left + to_x]
    part[:] = (small * mask + part * (1 - mask)).astype(np.uint8)
    inner_wide, inner_high = wide / (1 + 2 * MARGIN), high / (1 + 2 * MARGIN)
    return x - inner_wide / 2, y - inner_high / 2, inner_wide, inner_high


@cache
def _oval(width: int, height: int) -> Mask:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.clip((1 - np.hypot(x, y)) / 0.15, 0, 1).astype(np.float32)[..., None]
