"""How much of a picture the detector is shown: all of it, parts, or nothing."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.detect.boxes import Rectangle
from services.detect.regions_of_interest import AFTER_FACE_S
from services.detect.scenes import Scene
from services.detect.stillness import Cells, Difference
from services.detect.tiling import Grid, parts, with_border

WHOLE_S = 2.0
"""The time after a look at the whole picture at which another is due, whether anything has changed or not."""
DUE_S = 0.5
"""The same where no parts are looked at; and for the places where faces are or were."""


class Extent(StrEnum):
    """How much of a picture is looked at; also the label of the metric."""

    WHOLE = "whole"
    PARTS = "parts"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LookPlan:
    """What of a picture to look at.

    Attributes:
        extent: how much.
        parts: which, in pixels of the detector's canvas.
        cells: that the parts are for, without their border; None for all.
        kept: indices of the faces that count as still there without a look: nothing has changed at them.
        sees_places: whether all places where a face is or was are looked at.
    """

    extent: Extent
    parts: tuple[Rectangle, ...] = ()
    cells: Cells | None = None
    kept: tuple[int, ...] = ()
    sees_places: bool = False


WHOLE = LookPlan(Extent.WHOLE, sees_places=True)


def expects_look(scene: Scene, at_s: float, *, by_parts: bool) -> bool:
    """Say, before anything is compared, whether a picture taken at `at_s` will probably be looked at."""
    is_due = _is_whole_due(scene, at_s, by_parts=by_parts) or _are_places_due(scene, at_s)
    return is_due or scene.was_moving or len(scene.doubtful(at_s)) > 0


def plan(scene: Scene, difference: Difference, grid: Grid, at_s: float, *, by_parts: bool) -> LookPlan:
    """Return what of a picture to look at.

    Args:
        scene: what the camera showed before.
        difference: how the picture differs from that.
        grid: how the cells lie in the frame and on the canvas.
        at_s: when the picture was taken, in seconds of the frames' own time.
        by_parts: whether less than the whole may be looked at.
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
