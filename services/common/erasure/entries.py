"""The log of erasures: signed lines, each with the digest of the line before it. Pure.

A line is canonical JSON (sorted names, no spaces, ASCII) with a signature (Ed25519) as one of its names. The
signature covers `DOMAIN` and the same object without the signature, so that every byte of a line is
protected. An order to a device is such a line, as it is in the log.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.common import canonical_base64
from services.common.erasure.selection import Selection, from_body
from services.common.errors import FaceferryError, Refused
from services.common.wire import times

DOMAIN = b"faceferry erasure log 1\n"
MOST_LINE_BYTES = 256 * 1024
FIRST = "0" * 64
"""In place of the previous line's digest, in the first line."""

Sign = Callable[[bytes], bytes]
"""Returns a signature of data."""
Verify = Callable[[bytes, bytes], bool]
"""Says whether a signature (the first argument) is one of data (the second)."""


class EntryKind(StrEnum):
    """The kinds of lines."""

    ORDERED = "ordered"
    """These faces are to be erased. `about` is a `Selection`."""
    FOUND = "found"
    """The number of them that are stored and will be removed."""
    ERASED = "erased"
    """The number that was removed, and what is left or was refused, and why."""
    REPORTED = "reported"
    """A device, or a store, reported what it did about an order."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of the log.

    Attributes:
        number: its place in the log, from 1 on.
        time: when it was written, UTC.
        kind: its kind.
        about: its content; in all but orders `of` is the `name` of the order.
        previous: the digest of the line before it.
        line: the line itself, without its line end.
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
        """The name of an order in topics, reports and other lines."""
        return self.digest[:32]

    @property
    def selection(self) -> Selection:
        """The faces that an order is for.

        Raises:
            Refused: `bad_order`: the line is not an order, or is malformed.
        """
        if self.kind is not EntryKind.ORDERED:
            raise Refused("bad_order", f"a line of kind {self.kind}")
        return from_body(self.about, self.time)


class BrokenLog(FaceferryError):
    """A log was changed after it was written.

    Args:
        number: the first wrong line, from 1 on.
        why: the reason, in words.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number


def write(
    previous: LogEntry | None, time: datetime, kind: EntryKind, about: Mapping[str, object], sign: Sign
) -> LogEntry:
    """Return the next line of a log.

    Args:
        previous: the last line so far; None: this is the first.
        time: when it is written, UTC.
        kind: its kind.
        about: its content, for JSON.
        sign: signs it.
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
    """Read a line and verify its signature, but not its place in the log.

    Args:
        line: without its line end; not trusted.
        verify: verifies with the public key.

    Raises:
        Refused: `bad_entry`, or `bad_signature`: the key did not sign it.
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
    if _spell(body) != line or not verify(canonical_base64.decode(signature), DOMAIN + _spell(unsigned)):
        raise Refused("bad_signature", f"line {number}")
    return LogEntry(number, times.parse_rfc3339(time), EntryKind(kind), body["about"], previous, line)


def check_log(lines: Iterable[bytes], verify: Verify) -> list[LogEntry]:
    """Return the lines of a whole log, if none was changed and none is missing before the last.

    Missing lines at the end cannot be noticed: compare the number of lines, or a digest.

    Raises:
        BrokenLog: a line was changed, or is missing.
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
    """Return the orders without a line that says that nothing is left, oldest first."""
    open_orders: dict[str, LogEntry] = {}
    for entry in entries:
        if entry.kind is EntryKind.ORDERED:
            open_orders[entry.name] = entry
        elif entry.kind is EntryKind.ERASED and not entry.about.get("left"):
            open_orders.pop(str(entry.about.get("of")), None)
    return list(open_orders.values())


def _spell(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
