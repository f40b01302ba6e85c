"""How soon a live camera is worth another look."""

from collections import OrderedDict
from dataclasses import dataclass

from services.common.wire.frames import MOST_NEXT_S
from services.common.wire.sights import MOST_HASTE
from services.common.wire.topics import Source

LINGER_S = 2.0
"""For so long after a face the camera is looked at as if somebody were there: faces are turned and hidden."""
STILL_S = 0.25
"""Where nothing changes: whoever appears is seen within 0.3 s, a camera's own period and the way included."""
UNKNOWN_S = 0.2
"""Where nobody is seen, and nobody knows whether anything changes."""


@dataclass(frozen=True, slots=True)
class LookSummary:
    """What one look tells of how soon the next is due.

    Attributes:
        faces: how many it found.
        unseen_s: for how long there was nobody before it; see `LastFaceTimes`.
        haste: how many times as often as usual the visits need a look, if forward has said so.
        is_still: whether the picture is like the last one that was looked at; nothing if nobody has compared.
        is_in_doubt: whether something in it may be a face, or not.
    """

    faces: int
    unseen_s: float
    haste: float | None = None
    is_still: bool | None = None
    is_in_doubt: bool = False


def next_look_s(summary: LookSummary, looks_per_s: float) -> float:
    """Return how long after a frame no further one of its camera is worth sending, in seconds.

    Args:
        summary: what the frame showed.
        looks_per_s: how often is usual where somebody is; 0: each frame, always.
    """
    if not looks_per_s:
        return 0.0
    usual_s = 1 / looks_per_s
    if summary.is_in_doubt:
        return usual_s / MOST_HASTE
    if summary.faces:
        return min(MOST_NEXT_S, usual_s / _haste(summary))
    if summary.unseen_s < LINGER_S or summary.is_still is False:
        return min(MOST_NEXT_S, usual_s)
    return min(MOST_NEXT_S, max(usual_s, STILL_S if summary.is_still else UNKNOWN_S))


def _haste(summary: LookSummary) -> float:
    """Return forward's haste; where it is away a face that nobody expected is new, and others are usual."""
    if summary.haste is not None:
        return summary.haste
    return MOST_HASTE if summary.unseen_s > LINGER_S else 1.0


class LastFaceTimes:
    """When somebody was last seen before each camera.

    A hint and no track: of several detects each knows what it saw itself, and one that is new takes it that
    somebody was there just before. Whoever is wrong looks once too often, or a little late.

    Args:
        max_cameras: cameras that are remembered; the one least lately looked at is forgotten.
    """

    def __init__(self, max_cameras: int) -> None:
        self._max_cameras = max_cameras
        self._seen_s: OrderedDict[Source, float] = OrderedDict()

    def unseen_s(self, source: Source, now_s: float) -> float:
        """Return for how long nobody was seen there."""
        return now_s - self._seen_s.get(source, now_s)

    def note(self, source: Source, faces: int, now_s: float) -> None:
        """Take a look: so many faces were seen."""
        seen_s = self._seen_s.pop(source, now_s)
        self._seen_s[source] = now_s if faces else seen_s
        if len(self._seen_s) > self._max_cameras:
            self._seen_s.popitem(last=False)
