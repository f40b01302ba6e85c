"""The log of erasures where it lies: a file a line beside the faces, and beside it what devices report."""

from collections.abc import Mapping
from datetime import datetime

from services.common.erasure import entries
from services.common.erasure.entries import BrokenLog, Entry, Kind, Sign, Verify
from services.common.erasure.reports import Report, read_report
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
        self._entries: list[Entry] = []

    async def entries(self) -> list[Entry]:
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

    async def append(self, kind: Kind, about: Mapping[str, object], sign: Sign, now: datetime) -> Entry:
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
            if entry.kind is Kind.REPORTED
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
