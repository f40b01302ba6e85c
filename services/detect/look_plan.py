"""How much of a picture is worth a look: all of it, parts, or nothing."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.detect.boxes import Rectangle
from services.detect.regions_of_interest import AFTER_FACE_S
from services.detect.scenes import Scene
from services.detect.stillness import Cells, Difference
from services.detect.tiling import Grid, parts, with_border

WHOLE_S = 2.0
"""So long after the last look at the whole another is due, whatever the picture differs by."""
DUE_S = 0.5
"""The same where no parts are looked at, and of the places where somebody is or was."""


class Extent(StrEnum):
    """How much of a picture is looked at."""

    WHOLE = "whole"
    PARTS = "parts"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LookPlan:
    """What to look at.

    Attributes:
        extent: how much of it.
        parts: where, in pixels of the detector's canvas.
        cells: that are looked at in these parts for their own sake, not as a border.
        kept: indices of the faces that are still there without a look: nothing has changed where they are.
        sees_places: whether all places where somebody is or was are looked at.
    """

    extent: Extent
    parts: tuple[Rectangle, ...] = ()
    cells: Cells | None = None
    kept: tuple[int, ...] = ()
    sees_places: bool = False


WHOLE = LookPlan(Extent.WHOLE, sees_places=True)


def expects_look(scene: Scene, at_s: float, *, by_parts: bool) -> bool:
    """Say whether a picture of that time will probably be looked at."""
    is_due = _is_whole_due(scene, at_s, by_parts=by_parts) or _are_places_due(scene, at_s)
    return is_due or scene.was_moving or len(scene.doubtful(at_s)) > 0


def plan(scene: Scene, difference: Difference, grid: Grid, at_s: float, *, by_parts: bool) -> LookPlan:
    """Return what of a picture to look at.

    Args:
        scene: what the camera showed before; boxes in pixels of the frame.
        difference: how the picture differs from that.
        grid: how the cells lie.
        at_s: when it was taken.
        by_parts: whether anything but the whole can be looked at.
    """
    doubtful = scene.doubtful(at_s)
    is_same = difference.is_still and not len(doubtful)
    if _is_whole_due(scene, at_s, by_parts=by_parts) or not (by_parts or is_same):
        return WHOLE
    everybody = tuple(range(len(scene.faces)))
    places = scene.boxes
    is_due = _are_places_due(scene, at_s)
    is_asked = grid.touched(places, difference.moved) | is_due
    cells = difference.moved | grid.cells(with_border(np.concatenate([places[is_asked], doubtful])))
    if not by_parts or not cells.any():
        return LookPlan(Extent.NONE, kept=everybody)
    where = parts(cells, grid)
    if where is None:
        return WHOLE
    kept = tuple(index for index in everybody if not is_asked[index])
    return LookPlan(Extent.PARTS, tuple(where), cells, kept, sees_places=is_due)


def _is_whole_due(scene: Scene, at_s: float, *, by_parts: bool) -> bool:
    if by_parts:
        return at_s - scene.whole_s >= WHOLE_S
    return at_s - scene.whole_s >= DUE_S or at_s - scene.face_s < AFTER_FACE_S


def _are_places_due(scene: Scene, at_s: float) -> bool:
    return len(scene.boxes) > 0 and at_s - scene.places_s >= DUE_S
