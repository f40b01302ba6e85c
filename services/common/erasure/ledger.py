"""The log of erasures in a store, beside the faces, with devices' reports; and its followers."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from services.common.erasure import entries
from services.common.erasure.entries import BrokenLog, EntryKind, LogEntry, Sign, Verify, read
from services.common.erasure.reports import Report, read_report
from services.common.erasure.selection import ErasedFaces
from services.common.errors import Refused
from services.common.storage.objects import NoSuchObject, StoreUnavailable, WholeStore

FOLDER = "erasures"
REPORTS = "erasure-reports"
AT_ONCE = 1_000
MOST_TRIES = 20


def name_of(number: int) -> str:
    """Return the file name of a line; its suffix keeps it apart from faces' metadata."""
    return f"{number:010}.entry"


async def names_after(store: WholeStore, number: int) -> list[str]:
    """Return the names of the lines after a line, sorted, at most `AT_ONCE`.

    Raises:
        StoreUnavailable: they cannot be listed.
    """
    after = name_of(number) if number else ""
    found = await store.first(FOLDER, AT_ONCE, after=after)
    return [entry.key.rpartition("/")[2] for entry in found]


async def fetch(store: WholeStore, name: str) -> bytes:
    """Return a line by its file's name.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    try:
        return await store.fetch(f"{FOLDER}/{name}")
    except NoSuchObject as error:
        raise StoreUnavailable("bad_answer", f"{name} is listed, and is not there") from error


class Ledger:
    """Reads the log and appends to it. A line is written once and never changed.

    With conditional writes in the store several processes may append at a time: one of two that write
    the same line is refused, and writes the next.

    Args:
        store: holds the log.
        verify: verifies with the public key.
    """

    def __init__(self, store: WholeStore, verify: Verify) -> None:
        self._store = store
        self._verify = verify
        self._entries: list[LogEntry] = []

    async def entries(self) -> list[LogEntry]:
        """Return all lines.

        Raises:
            BrokenLog: the log was changed.
            StoreUnavailable: they cannot be read.
        """
        while names := await names_after(self._store, len(self._entries)):
            lines = [entry.line for entry in self._entries]
            for name in names:
                lines.append(await fetch(self._store, name))
                if name != name_of(len(lines)):
                    raise BrokenLog(len(lines), f"it is missing, or {name} is none")
            self._entries = entries.check_log(lines, self._verify)
        return list(self._entries)

    async def append(
        self, kind: EntryKind, about: Mapping[str, object], sign: Sign, now: datetime
    ) -> LogEntry:
        """Append a line; it is durable when this returns.

        Raises:
            BrokenLog: the log was changed.
            StoreUnavailable: it cannot be written.
        """
        for _ in range(MOST_TRIES):
            found = await self.entries()
            entry = entries.write(found[-1] if found else None, now, kind, about, sign)
            if await self._store.create(f"{FOLDER}/{name_of(entry.number)}", entry.line):
                self._entries.append(entry)
                return entry
        raise StoreUnavailable("conflict", f"others add to {FOLDER} all the time")

    async def reports(self) -> list[Report]:
        """Return the reports that are not in the log yet; malformed ones are ignored.

        Raises:
            BrokenLog: the log was changed.
            StoreUnavailable: they cannot be read.
        """
        known = {
            (str(entry.about.get("of")), str(entry.about.get("device")))
            for entry in await self.entries()
            if entry.kind is EntryKind.REPORTED
        }
        found: list[Report] = []
        async for entry in self._store.entries(REPORTS):
            _, order, name = entry.key.split("/")
            if (order, name.partition(".")[0]) not in known:
                found += await self._report(entry.key)
        return found

    async def _report(self, key: str) -> list[Report]:
        try:
            report = read_report(await self._store.fetch(key))
        except (NoSuchObject, Refused):
            return []
        return [report] if key == report_key(report) else []


def report_key(report: Report) -> str:
    """Return the key of a report."""
    return f"{REPORTS}/{report.order}/{report.device}.report"


STALE_S = 30.0
"""Seconds without a read of the log after which it counts as unknown."""
UNKNOWN = "erasures_unknown"

log = structlog.get_logger()


class LedgerFollower:
    """Follows the log, and knows which faces were erased.

    Lines that the key did not sign are skipped and reported to `refused`.

    Args:
        store: holds the log.
        verify: verifies with the public key.
        refused: is called with the reason for each line that is skipped.
        clock: seconds of a steady clock.

    Attributes:
        erased_faces: all selections that were ordered so far.
        orders: by name, in the order of the log.
    """

    def __init__(
        self,
        store: WholeStore,
        verify: Verify,
        *,
        refused: Callable[[Refused], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.erased_faces = ErasedFaces()
        self.orders: dict[str, LogEntry] = {}
        self._store = store
        self._verify = verify
        self._refused = refused
        self._clock = clock
        self._number = 0
        self._read_s = float("-inf")
        self._why: str | None = "not read yet"

    def why_unknown(self) -> str | None:
        """Return None while the log was read lately, else the reason (see `http.Check`)."""
        if self._clock() - self._read_s <= STALE_S:
            return None
        return f"the log of erasures cannot be read: {self._why}"

    def check_known(self) -> None:
        """Return if the log was read lately.

        Raises:
            StoreUnavailable: `erasures_unknown`: it was not.
        """
        if (why := self.why_unknown()) is not None:
            raise StoreUnavailable(UNKNOWN, why)

    async def look(self) -> list[LogEntry]:
        """Read new lines; return the orders among them.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        began_s = self._clock()
        found: list[LogEntry] = []
        try:
            while names := await names_after(self._store, self._number):
                before = self._number
                # Only the next number counts: another writer could else add a line after all future ones.
                for name in names:
                    if name == name_of(self._number + 1):
                        found += await self._take(name)
                if self._number == before:
                    break
        except StoreUnavailable as error:
            self._why = str(error)
            raise
        self._read_s = began_s
        return found

    async def run(self, every_s: float, heard: Callable[[list[LogEntry]], None]) -> None:
        """Read the log again and again, until cancelled.

        Args:
            every_s: seconds between reads.
            heard: is called with new orders, each once.
        """
        is_told = False
        while True:
            try:
                if found := await self.look():
                    heard(found)
                is_told = False
            except StoreUnavailable as error:
                if not is_told:
                    log.warning("erasures.unreadable", reason=error.reason, detail=error.detail)
                is_told = True
            await asyncio.sleep(every_s)

    async def _take(self, name: str) -> list[LogEntry]:
        line = await fetch(self._store, name)
        self._number += 1
        try:
            entry = read(line, self._verify)
            if name != name_of(entry.number):
                raise Refused("bad_entry", f"{name} holds line {entry.number}")  # noqa: TRY301
            if entry.kind is not EntryKind.ORDERED:
                return []
            selection = entry.selection
        except Refused as refusal:
            self._refused(refusal)
            return []
        self.erased_faces.add([selection])
        self.orders[entry.name] = entry
        return [entry]
