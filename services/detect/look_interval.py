"""How soon a live camera is worth another look. Pure: time is an argument."""

from collections import OrderedDict
from dataclasses import dataclass

from services.common.wire.frames import MOST_NEXT_S
from services.common.wire.seen import MOST_HASTE
from services.common.wire.topics import Source

LINGER_S = 2.0
"""For how long after a face the camera is looked at as if one were there: faces turn away and are hidden."""
STILL_S = 0.25
"""The pause where nothing changes: a person who appears is seen within 0.3 s, transport included."""
UNKNOWN_S = 0.2
"""The pause where no face is seen and frames are not compared."""


@dataclass(frozen=True, slots=True)
class LookSummary:
    """The facts about one look that decide how soon the next is due.

    Attributes:
        faces: how many it found.
        unseen_s: for how many seconds before it no face was seen; see `LastFaceTimes`.
        haste: how many times as often as usual the visits need a look; None where forward did not answer.
        is_still: whether the picture is like the last one looked at; None if they were not compared.
        is_in_doubt: whether something in it may or may not be a face.
    """

    faces: int
    unseen_s: float
    haste: float | None = None
    is_still: bool | None = None
    is_in_doubt: bool = False


def next_look_s(summary: LookSummary, looks_per_s: float) -> float:
    """Return for how many seconds after a frame no further one of its camera is worth sending.

    Args:
        summary: of the look at the frame.
        looks_per_s: the usual rate where a face is; 0: each frame, always.
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
    """Return forward's haste; without it the most for a face that appears, else 1."""
    if summary.haste is not None:
        return summary.haste
    return MOST_HASTE if summary.unseen_s > LINGER_S else 1.0


class LastFaceTimes:
    """When each camera last showed a face.

    A hint, not a track: each replica of detect knows only its own looks, and a new one assumes that there was
    a face just before. A wrong hint costs one look too many, or makes one a little late.

    Args:
        max_cameras: cameras that are remembered; the one looked at longest ago is forgotten.
    """

    def __init__(self, max_cameras: int) -> None:
        self._max_cameras = max_cameras
        self._seen_s: OrderedDict[Source, float] = OrderedDict()

    def unseen_s(self, source: Source, now_s: float) -> float:
        """Return for how many seconds no face was seen; 0 for a camera that is not known."""
        return now_s - self._seen_s.get(source, now_s)

    def note(self, source: Source, faces: int, now_s: float) -> None:
        """Note a look, which has found this many faces."""
        seen_s = self._seen_s.pop(source, now_s)
        self._seen_s[source] = now_s if faces else seen_s
        if len(self._seen_s) > self._max_cameras:
            self._seen_s.popitem(last=False)
