"""Which pixels a mask hides."""

import functools

import numpy as np
import numpy.typing as npt

from services.common.wire.scope import WHOLE_SIDE, Mask

Pixels = npt.NDArray[np.uint8]
Hidden = npt.NDArray[np.bool_]
"""(H, W) bool: which pixels are hidden."""

MOST_KEPT_PIXELS = 1920 * 1088
"""Of a larger picture it is found out anew each time: who sends frames may name any size and mask."""


def hide(picture: Pixels, mask: Mask) -> Pixels:
    """Return a picture with what a mask hides in black; the same where it hides nothing.

    Args:
        picture: (H, W, 3) or (H, W) uint8, upright; not modified.
        mask: polygons.
    """
    if not mask:
        return picture
    height, width = picture.shape[:2]
    if picture.ndim == 2:
        return np.where(hidden(mask, width, height), np.uint8(0), picture)
    veil = _kept_veil if width * height <= MOST_KEPT_PIXELS else _veil
    return np.bitwise_and(picture, veil(mask, width, height))


def hidden(mask: Mask, width: int, height: int) -> Hidden:
    """Return which pixels of a picture of this size a mask hides, those that its edges touch included."""
    return _kept(mask, width, height) if width * height <= MOST_KEPT_PIXELS else _draw(mask, width, height)


def _veil(mask: Mask, width: int, height: int) -> Pixels:
    """Return what is left of each value of each pixel: all of it, or nothing. (H, W, 3) uint8."""
    shown = np.where(hidden(mask, width, height), np.uint8(0), np.uint8(255))
    return np.repeat(shown[:, :, None], 3, axis=2)


_kept_veil = functools.lru_cache(maxsize=8)(_veil)


@functools.lru_cache(maxsize=8)
def _kept(mask: Mask, width: int, height: int) -> Hidden:
    return _draw(mask, width, height)


def _draw(mask: Mask, width: int, height: int) -> Hidden:
    drawn = np.zeros((height, width), np.bool_)
    for polygon in mask:
        corners = np.array(polygon, np.float64) * (width / WHOLE_SIDE, height / WHOLE_SIDE)
        drawn |= _inside(corners, width, height)
    drawn.setflags(write=False)
    return drawn


def _inside(corners: npt.NDArray[np.float64], width: int, height: int) -> Hidden:
    """Return which pixels lie within a polygon, a pixel's width around it included.

    What counts is how often the polygon goes round a pixel's centre: with one that crosses itself no hole is
    left that somebody may have meant to hide.
    """
    # How often it goes round what lies between two columns: each edge counts from where it is crossed on.
    turns = np.zeros((height, width + 1), np.int16)
    for (x, y), (to_x, to_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = sorted((y, to_y))
        rows = np.arange(max(0, np.ceil(first - 0.5)), min(height, np.ceil(last - 0.5)), dtype=np.intp)
        if not len(rows):
            continue
        crossed = x + (rows + 0.5 - y) * (to_x - x) / (to_y - y)
        columns = np.clip(np.ceil(crossed - 0.5), 0, width).astype(np.intp)
        turns[rows, columns] += 1 if to_y > y else -1
    return _widened(np.cumsum(turns[:, :width], axis=1, dtype=np.int16) != 0, corners)


def _widened(inside: Hidden, corners: npt.NDArray[np.float64]) -> Hidden:
    """Return pixels with their neighbours, and those at the corners: where an edge runs, more is hidden."""
    wide = inside.copy()
    height, width = inside.shape
    for x, y in corners:
        wide[min(int(y), height - 1), min(int(x), width - 1)] = True
    tall = wide.copy()
    tall[1:] |= wide[:-1]
    tall[:-1] |= wide[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide
