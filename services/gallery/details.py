"""The details of one face, as text for its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import Refused
from services.common.images import structure
from services.common.retention import Retention
from services.common.storage.objects import StoredObject
from services.common.wire.cloudevents import is_time_known

_TIMES = " \N{MULTIPLICATION SIGN} "
_SAID_ELSEWHERE = frozenset(
    {"specversion", "type", "source", "id", "time", "score", "box", "framesize", "sharpness"}
)


@dataclass(frozen=True, slots=True)
class FaceDetails:
    """Details of a face; values are text from a device, to be escaped where they are shown.

    Attributes:
        size: of the image, such as `96 x 128 px`; None if it cannot be read.
        score: the detector's confidence in percent; None without one.
        place: the box in the frame, pixels; None without one.
        sharpness: as stored; None without one.
        kept: how long it is kept.
        others: all other metadata, by name.
    """

    size: str | None
    score: str | None
    place: str | None
    sharpness: str | None
    kept: str
    others: Mapping[str, str]


def describe(item: StoredObject, taken: datetime, retention: Retention) -> FaceDetails:
    """Return the details of the face in an object.

    Args:
        item: the object.
        taken: when the frame was taken, UTC.
        retention: for how long faces are kept.
    """
    known = item.metadata
    return FaceDetails(
        size=_size(item.body),
        score=_score(known.get("score")),
        place=_place(known.get("box"), known.get("framesize")),
        sharpness=known.get("sharpness"),
        kept=_kept(taken, retention, known),
        others={name: value for name, value in sorted(known.items()) if name not in _SAID_ELSEWHERE},
    )


def _kept(taken: datetime, retention: Retention, known: Mapping[str, str]) -> str:
    until = retention.until(taken)
    if until is None:
        return "until it is deleted"
    if not is_time_known(known):
        return f"for {retention} from when it came: its camera did not know the time"
    return f"until {until:%Y-%m-%d %H:%M} UTC, and a day longer at most"


def _size(body: bytes) -> str | None:
    try:
        info = structure.inspect(body)
    except Refused:
        return None
    return f"{info.width}{_TIMES}{info.height} px"


def _score(text: str | None) -> str | None:
    try:
        return f"{100 * float(text):.1f} %" if text is not None else None
    except ValueError:
        return text


def _place(box: str | None, framesize: str | None) -> str | None:
    """Return `320 x 410 px at 88, 120 in a frame of 1920 x 1080 px` for `88,120,320,410`."""
    if box is None:
        return None
    match box.split(","):
        case [x, y, width, height]:
            frame = f" in a frame of {framesize.replace('x', _TIMES)} px" if framesize else ""
            return f"{width}{_TIMES}{height} px at {x}, {y}{frame}"
    return box
