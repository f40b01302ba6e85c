"""Selections of faces to erase: by id, by visit, or by camera and time. Pure; times are UTC."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import Refused
from services.common.storage.visits import is_visit
from services.common.wire import times
from services.common.wire.faces import is_id
from services.common.wire.topics import Source, is_name

MOST_IDS = 1_000
"""Ids in one order, which is one message of 70 kB at most; of more several orders are made."""
ERASED = "erased"
"""The reason for refusing a face that was erased and comes late."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Faces to erase, those that arrive later included.

    With `ids` or `visit` it is those faces and those of that visit; else all that were taken from `since` on
    and before `until`. `device` and `camera` narrow either. Times are compared with the time at the beginning
    of an id, even if the camera's clock was wrong.

    Attributes:
        ids: faces by id.
        visit: faces of this visit.
        device: only this device's; None: all devices'.
        camera: only of cameras of this name; None: of all cameras.
        since: only faces taken then or later.
        until: only faces taken before; a range always has it, because it may not reach into the future.
    """

    ids: frozenset[str] = frozenset()
    visit: str | None = None
    device: str | None = None
    camera: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_range(self) -> bool:
        """Whether it selects by camera and time only."""
        return not self.ids and self.visit is None

    def takes(self, source: Source, face_id: str, visit: str | None) -> bool:
        """Say whether a face is selected.

        Args:
            source: its camera.
            face_id: its id.
            visit: the visit in its metadata, or None.
        """
        if self.device not in (None, source.device) or self.camera not in (None, source.camera):
            return False
        if self.is_range:
            return self.takes_time(face_id)
        return face_id in self.ids or (self.visit is not None and self.visit == visit)

    def takes_time(self, face_id: str) -> bool:
        """Say whether the time at the beginning of an id is in the range."""
        begins = face_id[: len(times.compact(times.EPOCH))]
        return (self.since is None or begins >= times.compact(self.since)) and (
            self.until is None or begins < times.compact(self.until)
        )

    def __str__(self) -> str:
        parts = [f"{len(self.ids)} faces"] if self.ids and self.visit is None else []
        parts += [f"visit {self.visit}"] if self.visit is not None else []
        parts += [f"device {self.device}"] if self.device is not None else []
        parts += [f"camera {self.camera}"] if self.camera is not None else []
        parts += [f"from {times.rfc3339(self.since)}"] if self.since is not None else []
        parts += [f"before {times.rfc3339(self.until)}"] if self.until is not None else []
        return ", ".join(parts)


def to_body(selection: Selection) -> dict[str, object]:
    """Return a selection as the content of an order, for JSON."""
    body: dict[str, object] = {
        "ids": sorted(selection.ids),
        "visit": selection.visit,
        "device": selection.device,
        "camera": selection.camera,
        "from": None if selection.since is None else times.rfc3339(selection.since),
        "to": None if selection.until is None else times.rfc3339(selection.until),
    }
    return {name: value for name, value in body.items() if value}


def from_body(body: object, issued: datetime) -> Selection:
    """Read the content of an order.

    Args:
        body: from JSON; not trusted.
        issued: when it was ordered, UTC.

    Raises:
        Refused: `bad_order`: it is malformed, or reaches beyond `issued`.
    """
    if not isinstance(body, Mapping) or not body.keys() <= {"ids", "visit", "device", "camera", "from", "to"}:
        raise Refused("bad_order", "not an order")
    selection = Selection(
        ids=_ids(body.get("ids", [])),
        visit=_text(body, "visit", is_visit),
        device=_text(body, "device", is_name),
        camera=_text(body, "camera", is_name),
        since=_time(body, "from"),
        until=_time(body, "to"),
    )
    check(selection, issued)
    return selection


def check(selection: Selection, issued: datetime) -> None:
    """Return if a selection may be ordered.

    Raises:
        Refused: `bad_order`.
    """
    if not selection.is_range and (selection.since is not None or selection.until is not None):
        raise Refused("bad_order", "a time beside ids or a visit")
    if selection.is_range and (selection.until is None or selection.until > issued):
        raise Refused("bad_order", "a range without an end, or one in the future")
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise Refused("bad_order", "a range that ends before it begins")


def _ids(found: object) -> frozenset[str]:
    if not isinstance(found, list) or len(found) > MOST_IDS or not all(map(is_id, found)):
        raise Refused("bad_order", "no list of ids")
    return frozenset(found)


def _text(body: Mapping[object, object], name: str, is_one: Callable[[str], bool]) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not is_one(value):
        raise Refused("bad_order", name)
    return value


def _time(body: Mapping[object, object], name: str) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused("bad_order", name)
    return times.parse_rfc3339(value)


class ErasedFaces:
    """All selections that were erased, looked up for each face that comes."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[Selection]] = {}
        self._by_visit: dict[str, list[Selection]] = {}
        self._ranges: dict[str | None, list[Selection]] = {}

    def add(self, selections: Iterable[Selection]) -> None:
        """Add the selections of orders."""
        for selection in selections:
            for face_id in selection.ids:
                self._by_id.setdefault(face_id, []).append(selection)
            if selection.visit is not None:
                self._by_visit.setdefault(selection.visit, []).append(selection)
            if selection.is_range:
                self._ranges.setdefault(selection.device, []).append(selection)

    def takes(self, source: Source, face_id: str, visit: str | None) -> bool:
        """Say whether a face was erased; see `Selection.takes`."""
        candidates = [
            *self._by_id.get(face_id, ()),
            *self._by_visit.get(visit or "", ()),
            *self._ranges.get(source.device, ()),
            *self._ranges.get(None, ()),
        ]
        return any(each.takes(source, face_id, visit) for each in candidates)
