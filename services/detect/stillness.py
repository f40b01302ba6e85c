"""Whether and where a picture differs from an earlier one by more than noise.

Both are small and grey. A change of light in between is corrected first: row by row, because lamps that
flicker while a sensor reads its rows make bands. The remaining difference is averaged over about the area of
the smallest face, and compared with the typical difference of the whole picture just now (a sensor's noise,
compression, a gain that was not corrected in full) and with that of each place lately (a lamp, leaves).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.detect.boxes import Floats
from services.detect.codec import GreyImage

Cells = npt.NDArray[np.bool_]
"""(rows, columns): one for each `CELL_PX` by `CELL_PX` pixels of a small picture, fewer at its far edges."""

CELL_PX = 4
LEAST_PX = 3
"""The side of the smallest face, in the same pixels."""
FLOOR = 3.0
"""Levels of 255: a smaller difference never counts, however quiet the picture. The smallest faces that are
found make 30 and more, a usual sensor's noise 1.5."""
CAP = 15.0
"""Levels: a larger difference always counts, however restless the place."""
TYPICAL = 4.0
"""A difference up to this many times the median of all cells is noise."""
USUAL = 2.5
"""A difference up to this many times a cell's learnt noise is noise."""

_LEARNT_UP = 0.5
"""Levels by which a cell's noise grows for each picture: a person who walks by leaves little, a lamp much."""
_LEARNT_DOWN = 0.02
_MOST_NOISE = CAP / USUAL
_MOST_LIT = 1.5
"""The most that a change of light is corrected by: a larger one is worth a look."""
_DARK, _BRIGHT = 16.0, 240.0
"""Levels beyond which a pixel says little about the light."""
_BAND_PX = 2
"""The number of rows with one gain."""
_LEAST_LIT = 8
"""The least number of usable places from which the gain of such rows is estimated."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a camera's picture is compared with.

    Attributes:
        grey: each place as it was when it was last looked at; never modified.
        noise: (rows, columns) float32: the difference that each cell usually has, in levels.
    """

    grey: GreyImage
    noise: Floats

    @classmethod
    def of(cls, grey: GreyImage) -> "Reference":
        """Return the reference after a camera's first picture."""
        return cls(grey, np.zeros(cell_shape(grey), np.float32))

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        return self.grey.nbytes + self.noise.nbytes


@dataclass(frozen=True, slots=True)
class Difference:
    """How a picture differs from its reference.

    Attributes:
        grey: the picture.
        expected: (H, W) float32: the reference in the light of the picture.
        level: (rows, columns) float32: by how many levels each cell differs from that.
        moved: the cells in which the difference is more than noise.
    """

    grey: GreyImage
    expected: Floats
    level: Floats
    moved: Cells

    @property
    def is_still(self) -> bool:
        """Whether no cell has moved."""
        return not self.moved.any()


def cell_shape(grey: GreyImage) -> tuple[int, int]:
    """Return how many rows and columns of cells a picture has."""
    height, width = grey.shape
    return -(-height // CELL_PX), -(-width // CELL_PX)


def compare(reference: Reference, grey: GreyImage) -> Difference:
    """Return where a picture differs from its reference, which has the same size; neither is modified."""
    expected = _in_light_of(reference.grey, grey)
    beside = cv2.absdiff(grey.astype(np.float32), expected)
    # The largest mean of any such square about the cell: a face seldom lies just on one.
    means = cv2.dilate(cv2.blur(beside, (LEAST_PX, LEAST_PX)), _CELL)
    level = np.asarray(means[_middles(grey)], np.float32)
    limit = np.maximum(max(FLOOR, TYPICAL * float(np.median(level))), USUAL * reference.noise)
    return Difference(grey, expected, level, level > np.minimum(limit, CAP))


def learn(reference: Reference, difference: Difference, near_faces: Cells | None = None) -> Reference:
    """Return the reference with its noise updated by a picture, except in the cells near faces."""
    level, noise = difference.level, reference.noise
    grown = np.minimum(np.minimum(level, noise + _LEARNT_UP), _MOST_NOISE)
    learnt = np.where(level > noise, grown, noise + _LEARNT_DOWN * (level - noise)).astype(np.float32)
    return Reference(reference.grey, learnt if near_faces is None else np.where(near_faces, noise, learnt))


def renew(reference: Reference, difference: Difference, seen: Cells | None = None) -> Reference:
    """Return the reference after a look.

    Args:
        reference: with which the picture was compared.
        difference: the result.
        seen: the cells that were looked at; None for all. The others keep their picture, in the new light.
    """
    if seen is None:
        return Reference(difference.grey, reference.noise)
    height, width = difference.grey.shape
    each = np.repeat(np.repeat(seen, CELL_PX, 0), CELL_PX, 1)[:height, :width]
    kept = np.rint(difference.expected).astype(np.uint8)
    return Reference(np.where(each, difference.grey, kept), reference.noise)


_CELL = np.ones((CELL_PX, CELL_PX), np.uint8)


def _middles(grey: GreyImage) -> tuple[npt.NDArray[np.intp], ...]:
    """Return the indices of the pixels in the middle of the cells."""
    middles = (
        np.minimum(np.arange(count) * CELL_PX + CELL_PX // 2, side - 1)
        for count, side in zip(cell_shape(grey), grey.shape, strict=True)
    )
    return np.ix_(*middles)


def _in_light_of(before: GreyImage, now: GreyImage) -> Floats:
    """Return an earlier picture in the light of a later one: (H, W) float32."""
    height, width = before.shape
    size = -(-width // CELL_PX), -(-height // _BAND_PX)
    then, later = (
        cv2.resize(each, size, interpolation=cv2.INTER_AREA).astype(np.float32) for each in (before, now)
    )
    tells = (np.minimum(then, later) > _DARK) & (np.maximum(then, later) < _BRIGHT)
    gains = _row_medians(np.where(tells, later / np.maximum(then, 1.0), np.inf), tells.sum(axis=1))
    each = cv2.resize(gains[:, None], (1, height), interpolation=cv2.INTER_LINEAR).reshape(height, 1)
    lit: Floats = np.minimum(before * each.astype(np.float32), np.float32(255.0))
    return lit


def _row_medians(ratios: Floats, counts: npt.NDArray[np.int_]) -> Floats:
    """Return the gain of each band of rows; for one with too few usable places, the median of the others."""
    in_order = np.sort(ratios, axis=1)
    medians = in_order[np.arange(len(counts)), np.maximum(0, counts // 2 - (counts > 0))]
    known = counts >= _LEAST_LIT
    common = float(np.median(medians[known])) if known.any() else 1.0
    gains: Floats = np.clip(np.where(known, medians, common), 1 / _MOST_LIT, _MOST_LIT).astype(np.float32)
    return gains
