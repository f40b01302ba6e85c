"""The pixels that a camera's mask hides; see `wire.scope`."""

import functools

import numpy as np
import numpy.typing as npt

from services.common.wire.scope import WHOLE_SIDE, Mask

Pixels = npt.NDArray[np.uint8]
Hidden = npt.NDArray[np.bool_]
"""(H, W) bool: which pixels are hidden."""

MOST_KEPT_PIXELS = 1920 * 1088
"""Results for larger pictures are not cached: clients may send frames of any size, with any mask."""


def hide(picture: Pixels, mask: Mask) -> Pixels:
    """Return a picture with its hidden pixels black; the picture itself if the mask is empty.

    Args:
        picture: (H, W, 3) or (H, W) uint8, upright; not modified.
        mask: see `Scope`.
    """
    if not mask:
        return picture
    height, width = picture.shape[:2]
    if picture.ndim == 2:
        return np.where(hidden(mask, width, height), np.uint8(0), picture)
    veil = _kept_veil if width * height <= MOST_KEPT_PIXELS else _veil
    return np.bitwise_and(picture, veil(mask, width, height))


def hidden(mask: Mask, width: int, height: int) -> Hidden:
    """Return the pixels of an upright picture that a mask hides, with those at its edges; read-only."""
    return _kept(mask, width, height) if width * height <= MOST_KEPT_PIXELS else _draw(mask, width, height)


def _veil(mask: Mask, width: int, height: int) -> Pixels:
    """Return (H, W, 3) uint8 to be and-ed with a picture: 255 where it is shown, 0 where it is hidden."""
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
    """Return the pixels inside a polygon, and those within one pixel of it.

    Inside means a winding number other than 0, so that a polygon that crosses itself leaves no hole that the
    user may have meant to hide.
    """
    # The winding number changes at each edge: sum the changes along each row.
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
    """Return pixels with their neighbours and those at the corners, so that edges are hidden generously."""
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
