"""A device's report of what it did about an order. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.common.errors import Refused, is_reason
from services.common.wire.message import from_json, to_json
from services.common.wire.topics import is_name

STORE = "_store"
"""In place of a device's name: the store, which refuses late faces from then on."""
MOST_BYTES = 4_096
_ORDER = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Report:
    """What a device did about an order.

    Attributes:
        order: the order's name, see `LogEntry.name`.
        device: the device, or `STORE`.
        gone: number of faces removed, by where they were: `waiting`, `quarantine`, `set_aside`, `files`.
    """

    order: str
    device: str
    gone: Mapping[str, int]


def is_order_name(text: str) -> bool:
    """Say whether `text` has the form of an order's name."""
    return _ORDER.fullmatch(text) is not None


def write_report(report: Report) -> bytes:
    """Return a report as JSON, for the wire and the store."""
    return to_json({"of": report.order, "device": report.device, "gone": dict(sorted(report.gone.items()))})


def read_report(payload: bytes) -> Report:
    """Read a report, which is not trusted.

    Raises:
        Refused: `bad_report` or `bad_json`.
    """
    if len(payload) > MOST_BYTES:
        raise Refused("bad_report", f"{len(payload)} bytes")
    match from_json(payload):
        case {"of": str() as order, "device": str() as device, "gone": dict() as gone, **rest} if not rest:
            if is_order_name(order) and (device == STORE or is_name(device)) and _are_counts(gone):
                return Report(order, device, gone)
    raise Refused("bad_report", "not a report")


def _are_counts(gone: Mapping[object, object]) -> bool:
    return all(is_reason(where) and type(count) is int and count >= 0 for where, count in gone.items())
