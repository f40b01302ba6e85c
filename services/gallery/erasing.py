"""Erasure from pages: ordered with the token for erasing, and carried out in the background."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from services.common.erasure.entries import BrokenLog, LogEntry, Sign, Verify
from services.common.erasure.erasing import SETTLE_S, Eraser
from services.common.erasure.finding import find_faces, with_members
from services.common.erasure.ledger import Ledger
from services.common.erasure.selection import Selection
from services.common.runtime.access import Guard
from services.common.storage.keys import FaceKey
from services.common.storage.objects import StoreUnavailable, WholeStore
from services.gallery.metrics import ERASURES_FAILED

AGAIN_S = 10.0

log = structlog.get_logger()


class Erasing:
    """Orders erasures, and carries out all orders that are not finished.

    Args:
        store: holds the faces and the log.
        token: the token for erasing, beside the one for looking.
        key: functions that sign orders and verify signatures.
        settle_s: see `Eraser`.
    """

    def __init__(
        self, store: WholeStore, token: str, key: tuple[Sign, Verify], settle_s: float = SETTLE_S
    ) -> None:
        sign, self.verify = key
        self.guard = Guard(token)
        self._store = store
        self._eraser = Eraser(store, Ledger(store, self.verify), sign, settle_s=settle_s)
        self._is_verified = False
        self._wake = asyncio.Event()
        self._wake.set()

    async def count(self, selection: Selection) -> int:
        """Return how many stored faces a selection would erase.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        return len((await find_faces(self._store, await with_members(self._store, selection))).faces)

    async def order(self, selection: Selection) -> LogEntry:
        """Write an order to the log and start to carry it out.

        Raises:
            StoreUnavailable, BrokenLog: nothing was ordered.
        """
        if not self._is_verified:
            await self._store.verify()  # learns how a line of the log can be written
            self._is_verified = True
        order = await self._eraser.order(selection)
        log.warning("gallery.erasure_ordered", order=order.name, selection=str(selection))
        self._wake.set()
        return order

    async def run(self, done: Callable[[LogEntry], None]) -> None:
        """Carry out unfinished orders, made here or elsewhere, until cancelled.

        Args:
            done: is called with each order that was carried out.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for order in await self._eraser.unfinished():
                    erased = await self._eraser.carry_out(order)
                    log.warning(
                        "gallery.faces_erased", order=order.name, faces=erased.faces, left=erased.left
                    )
                    done(order)
            except (StoreUnavailable, BrokenLog) as error:
                ERASURES_FAILED.inc()
                log.error("gallery.erasure_waits", error=str(error))  # noqa: TRY400 - foreseen
                self._wake.set()
                await asyncio.sleep(AGAIN_S)


def selection_of(key: FaceKey, visit: str | None) -> Selection:
    """Return the selection of a face, or of its visit where `visit` names one."""
    ids = Selection(ids=frozenset({key.id}), device=key.source.device, camera=key.source.camera)
    return ids if visit is None else replace(ids, visit=visit)
