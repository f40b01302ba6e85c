"""The log of erasures: lines, each signed, each with the digest of the one before it. Pure.

A line is JSON in one spelling (names in order, no spaces, ASCII) with a signature (Ed25519) among its names.
What is signed is the same object without it, behind `DOMAIN`. So there is no byte of a line that could be
another. An order to a device is such a line, as it stands in the log.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.common.erasure.selection import Selection, from_body
from services.common.errors import FaceferryError, Refused
from services.common.wire import times

DOMAIN = b"faceferry erasure log 1\n"
MOST_LINE_BYTES = 256 * 1024
FIRST = "0" * 64
"""In place of the digest of a line before the first."""

Sign = Callable[[bytes], bytes]
"""Returns a signature of data."""
Verify = Callable[[bytes, bytes], bool]
"""Says whether a signature, the first, is one of data, the second."""


class EntryKind(StrEnum):
    """What a line says."""

    ORDERED = "ordered"
    """These faces are to be erased. `about` is a `Selection`."""
    FOUND = "found"
    """So many of them are stored, and go now."""
    ERASED = "erased"
    """So many went, and of these none is left; or what the store did not let go of, and why."""
    REPORTED = "reported"
    """A device, or a store, has said what it did about an order."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of the log.

    Attributes:
        number: its place, from 1 on.
        time: when it was written, UTC.
        kind: what it says.
        about: the rest; for all but orders `of` names the order, by its digest's beginning.
        previous: the digest of the line before.
        line: the line itself, without its end.
    """

    number: int
    time: datetime
    kind: EntryKind
    about: Mapping[str, object]
    previous: str
    line: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the line, in hexadecimal."""
        return hashlib.sha256(self.line).hexdigest()

    @property
    def name(self) -> str:
        """What an order is called in topics, reports and other lines."""
        return self.digest[:32]

    @property
    def selection(self) -> Selection:
        """What is ordered.

        Raises:
            Refused: `bad_order`: nothing is.
        """
        if self.kind is not EntryKind.ORDERED:
            raise Refused("bad_order", f"a line of kind {self.kind}")
        return from_body(self.about, self.time)


class BrokenLog(FaceferryError):
    """A log is not as it was written.

    Args:
        number: the first line that is wrong, from 1 on.
        why: in words.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number


def write(
    previous: LogEntry | None, time: datetime, kind: EntryKind, about: Mapping[str, object], sign: Sign
) -> LogEntry:
    """Return the line that comes behind another, or the first.

    Args:
        previous: the last one so far.
        time: when it is written, UTC.
        kind: what it says.
        about: the rest.
        sign: signs.
    """
    number = 1 if previous is None else previous.number + 1
    digest = FIRST if previous is None else previous.digest
    body: dict[str, object] = {
        "about": dict(about),
        "entry": kind.value,
        "number": number,
        "previous": digest,
        "time": times.rfc3339(time),
    }
    signature = base64.b64encode(sign(DOMAIN + _spell(body))).decode()
    return LogEntry(number, time, kind, about, digest, _spell({**body, "signature": signature}))


def read(line: bytes, verify: Verify) -> LogEntry:
    """Read a line, whose place among others is not looked at.

    Args:
        line: without its end; nothing of it is believed.
        verify: knows the public key.

    Raises:
        Refused: `bad_entry`, or `bad_signature`: it is not of the key's holder.
    """
    if len(line) > MOST_LINE_BYTES:
        raise Refused("bad_entry", f"{len(line)} bytes")
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_entry", "no JSON") from error
    match body:
        case {
            "about": dict(),
            "entry": str() as kind,
            "number": int() as number,
            "previous": str() as previous,
            "signature": str() as signature,
            "time": str() as time,
            **rest,
        } if not rest and kind in {each.value for each in EntryKind}:
            pass
        case _:
            raise Refused("bad_entry", "not a line of a log")
    unsigned = {name: value for name, value in body.items() if name != "signature"}
    if _spell(body) != line or not verify(_unpacked(signature), DOMAIN + _spell(unsigned)):
        raise Refused("bad_signature", f"line {number}")
    return LogEntry(number, times.parse_rfc3339(time), EntryKind(kind), body["about"], previous, line)


def check(lines: Iterable[bytes], verify: Verify) -> list[LogEntry]:
    """Return the lines of a whole log, if each is as it was written, and none is missing before the last.

    That the last ones were cut off cannot be seen from what is left: compare their number, or a digest.

    Raises:
        BrokenLog: one is not.
    """
    found: list[LogEntry] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = read(line, verify)
        except Refused as error:
            raise BrokenLog(number, str(error)) from error
        if entry.number != number or entry.previous != (found[-1].digest if found else FIRST):
            raise BrokenLog(number, "it does not follow the one before it")
        found.append(entry)
    return found


def unfinished(entries: Iterable[LogEntry]) -> list[LogEntry]:
    """Return the orders of which it was not said yet that nothing is left, the oldest first."""
    open_orders: dict[str, LogEntry] = {}
    for entry in entries:
        if entry.kind is EntryKind.ORDERED:
            open_orders[entry.name] = entry
        elif entry.kind is EntryKind.ERASED and not entry.about.get("left"):
            open_orders.pop(str(entry.about.get("of")), None)
    return list(open_orders.values())


def _spell(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _unpacked(signature: str) -> bytes:
    """Return the bytes of a signature, spelled in the one way: bits of its last letter stand for nothing."""
    try:
        found = base64.b64decode(signature, validate=True)
    except ValueError:
        return b""
    return found if base64.b64encode(found).decode() == signature else b""
