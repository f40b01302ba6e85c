"""Whoever has to know what was erased reads the log of erasures, and looks now and then for more."""

import asyncio
import time
from collections.abc import Callable

import structlog

from services.common.erasure.entries import Entry, Kind, Verify, read
from services.common.erasure.ledger import fetch, name_of, names_after
from services.common.erasure.selection import KeptOut
from services.common.errors import Refused
from services.common.storage.objects import StoreUnavailable, WholeStore

STALE_S = 30.0
"""Who has not been able to read the log for so long does not know what was erased."""
UNKNOWN = "erasures_unknown"

log = structlog.get_logger()


class Following:
    """Knows what was erased.

    Lines that are not of the key's holder are no orders: they are told of, and passed over.

    Args:
        store: where the log lies.
        verify: knows the public key.
        refused: is told why a line is none.
        clock: seconds, steady.

    Attributes:
        kept_out: all that was erased, as far as it is known.
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
        self.kept_out = KeptOut()
        self.orders: dict[str, Entry] = {}
        self._store = store
        self._verify = verify
        self._refused = refused
        self._clock = clock
        self._number = 0
        self._read_s = float("-inf")
        self._why: str | None = "not read yet"

    def why_unknown(self) -> str | None:
        """Return nothing while it is known what was erased, else why not (see `health.Check`)."""
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

    async def look(self) -> list[Entry]:
        """Read what has come since the last look; return the orders among it.

        Raises:
            StoreUnavailable: that cannot be done.
        """
        began_s = self._clock()
        found: list[Entry] = []
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

    async def run(self, every_s: float, heard: Callable[[list[Entry]], None]) -> None:
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

    async def _take(self, name: str) -> list[Entry]:
        line = await fetch(self._store, name)
        self._number += 1
        try:
            entry = read(line, self._verify)
            if name != name_of(entry.number):
                raise Refused("bad_entry", f"{name} holds line {entry.number}")  # noqa: TRY301
            if entry.kind is not Kind.ORDERED:
                return []
            selection = entry.selection
        except Refused as refusal:
            self._refused(refusal)
            return []
        self.kept_out.add([selection])
        self.orders[entry.name] = entry
        return [entry]
