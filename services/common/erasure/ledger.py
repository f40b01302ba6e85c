"""The log of erasures where it lies, beside the faces, with what devices report; and who follows it."""

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
    """Return what the file of a line is called; no listing takes it for what lies beside an image."""
    return f"{number:010}.entry"


async def names_after(store: WholeStore, number: int) -> list[str]:
    """Return the names of the lines behind one, in order, at most `AT_ONCE`.

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
    """Reads the log, and adds to it. Each line is written once, and never changed.

    Several may add to it at a time, where the store knows conditional writes: of two who mean to write the
    same line one is second, and writes the next.

    Args:
        store: where it is.
        verify: knows the public key.
    """

    def __init__(self, store: WholeStore, verify: Verify) -> None:
        self._store = store
        self._verify = verify
        self._entries: list[LogEntry] = []

    async def entries(self) -> list[LogEntry]:
        """Return all lines.

        Raises:
            BrokenLog: they are not as they were written.
            StoreUnavailable: they cannot be read.
        """
        while names := await names_after(self._store, len(self._entries)):
            lines = [entry.line for entry in self._entries]
            for name in names:
                lines.append(await fetch(self._store, name))
                if name != name_of(len(lines)):
                    raise BrokenLog(len(lines), f"it is missing, or {name} is none")
            self._entries = entries.check(lines, self._verify)
        return list(self._entries)

    async def append(
        self, kind: EntryKind, about: Mapping[str, object], sign: Sign, now: datetime
    ) -> LogEntry:
        """Add a line; it is durable when this returns.

        Raises:
            BrokenLog: what is there is not as it was written.
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
        """Return what was reported and is not in the log yet; what is none is passed over.

        Raises:
            BrokenLog: the log is not as it was written.
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
    """Return where a report lies."""
    return f"{REPORTS}/{report.order}/{report.device}.report"


STALE_S = 30.0
"""Who has not been able to read the log for so long does not know what was erased."""
UNKNOWN = "erasures_unknown"

log = structlog.get_logger()


class LedgerFollower:
    """Knows what was erased.

    Lines that are not of the key's holder are no orders: they are told of, and passed over.

    Args:
        store: where the log lies.
        verify: knows the public key.
        refused: is told why a line is none.
        clock: seconds, steady.

    Attributes:
        erased_faces: all that was erased, as far as it is known.
        orders: by their names, in order.
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
        """Return None while it is known what was erased, else why not (see `health.Check`)."""
        if self._clock() - self._read_s <= STALE_S:
            return None
        return f"the log of erasures cannot be read: {self._why}"

    def check_known(self) -> None:
        """Return if it is known what was erased.

        Raises:
            StoreUnavailable: it is not.
        """
        if (why := self.why_unknown()) is not None:
            raise StoreUnavailable(UNKNOWN, why)

    async def look(self) -> list[LogEntry]:
        """Read what has come since the last look; return the orders among it.

        Raises:
            StoreUnavailable: that cannot be done.
        """
        began_s = self._clock()
        found: list[LogEntry] = []
        try:
            while names := await names_after(self._store, self._number):
                before = self._number
                # Only the next line is one: who may write here at all could else put one behind all to come.
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
        """Look so often, until cancelled.

        Args:
            every_s: how often.
            heard: is told of each order once.
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
