"""What was erased is kept out, and devices are told to erase it, too."""

import time

from services.common.erasure.entries import Entry, Verify
from services.common.erasure.ledger import REPORTS, Following, report_key
from services.common.erasure.reports import STORE, Report, is_order_name, write_report
from services.common.erasure.selection import ERASED
from services.common.errors import Refused
from services.common.runtime.metrics import Drops
from services.common.storage.index.rows import Row
from services.common.storage.objects import WholeStore
from services.common.wire.topics import Source
from services.store.admission import Admitted
from services.store.metrics import ERASURE_REFUSED, ERASURE_REPORTS, ERASURES, ERASURES_READ_AT

refusals = Drops(ERASURE_REFUSED, "store.erasure_refused")


class Erasures:
    """What a store knows of erasures, and keeps of what devices report.

    Args:
        store: where the log and the reports lie.
        verify: knows the public key.

    Attributes:
        following: reads the log.
    """

    def __init__(self, store: WholeStore, verify: Verify) -> None:
        self.following = Following(store, verify, refused=_refused)
        self._store = store
        self._reported: set[tuple[str, str]] = set()

    async def begin(self) -> None:
        """Read what there is.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        async for entry in self._store.entries(REPORTS):
            match entry.key.split("/"):
                case [_, order, name] if is_order_name(order):
                    self._reported.add((order, name.partition(".")[0]))
        await self.look()

    async def look(self) -> list[Entry]:
        """Read what has come since, and say that this store knows it.

        Raises:
            StoreUnavailable: one of that cannot be done.
        """
        await self.following.look()
        for name in self.following.orders:
            await self.keep(Report(name, STORE, {}))
        ERASURES.set(len(self.following.orders))
        ERASURES_READ_AT.set(time.time())
        return list(self.following.orders.values())

    async def keep(self, report: Report) -> None:
        """Keep a report; it is durable when this returns.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        if self.is_reported(report.order, report.device):
            return
        await self._store.create(report_key(report), write_report(report))
        self._reported.add((report.order, report.device))
        if report.device != STORE:
            ERASURE_REPORTS.inc()

    def is_reported(self, order: str, device: str) -> bool:
        """Say whether a device has reported about an order."""
        return (order, device) in self._reported

    def due(self, device: str) -> list[Entry]:
        """Return the orders that a device is to be told of."""
        return [
            order
            for name, order in self.following.orders.items()
            if order.selection.device in (None, device) and not self.is_reported(name, device)
        ]

    def see(self, admitted: Admitted) -> None:
        """Return if a face may be stored, as far as erasures are concerned.

        Raises:
            Refused: `erased`.
            StoreUnavailable: it is not known what was erased.
        """
        self.following.check_known()
        face = admitted.face
        if self.following.kept_out.takes(face.source, face.id, face.extensions.get("visit")):
            raise Refused(ERASED, face.id)

    def has_erased(self, source: Source, face_id: str, visit: str | None) -> bool:
        """Say whether a face was erased."""
        return self.following.kept_out.takes(source, face_id, visit)

    def is_erased(self, row: Row) -> bool:
        """Say whether a face was erased, by its row of the index."""
        return self.following.kept_out.takes(row.key.source, row.id, row.visit)


def _refused(refusal: Refused) -> None:
    refusals.count(refusal.reason, detail=refusal.detail)
