"""Which faces lie in what is never looked at."""

import numpy as np

from services.common.shading import Hidden, hidden
from services.common.wire.scope import Mask
from services.detect.boxes import Detections, clip_box

MOST_HIDDEN = 0.5
"""Of a face's box. What is hidden is black, but a detector may guess at a face from what stands beside it."""


def outside(found: Detections, mask: Mask, width: int, height: int) -> Detections:
    """Return the faces that a mask does not hide: neither their middle nor more than half of them.

    Args:
        found: in pixels of the picture.
        mask: polygons.
        width: of the picture.
        height: likewise.
    """
    if not mask or not len(found):
        return found
    dark = hidden(mask, width, height)
    shown = [index for index in range(len(found)) if _is_shown(found, index, dark)]
    return found.selected(np.array(shown, np.intp))


def _is_shown(found: Detections, index: int, dark: Hidden) -> bool:
    height, width = dark.shape
    box = clip_box(found.boxes[index], width, height)
    if box is None:
        return True  # beside the picture, and not cut at all
    part = dark[box.y : box.y + box.height, box.x : box.x + box.width]
    return not part[box.height // 2, box.width // 2] and float(part.mean()) <= MOST_HIDDEN
