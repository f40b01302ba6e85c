"""Keeps erased faces out, has devices erase them too, and keeps what the devices report."""

import asyncio
import time

import structlog

from services.common.erasure.entries import LogEntry, Verify
from services.common.erasure.ledger import REPORTS, LedgerFollower, report_key
from services.common.erasure.reports import STORE, Report, is_order_name, read_report, write_report
from services.common.erasure.selection import ERASED
from services.common.errors import Refused
from services.common.mqtt import Broker, Link, LinkDown, PacketTooLarge
from services.common.runtime.metrics import Drops
from services.common.storage.index.rows import IndexRow
from services.common.storage.objects import StoreUnavailable, WholeStore
from services.common.wire.message import Message
from services.common.wire.topics import ROOT, Source, device_topic, is_name
from services.store.admission import Admitted
from services.store.metrics import ERASURE_REFUSED, ERASURE_REPORTS, ERASURES, ERASURES_READ_AT

refusals = Drops(ERASURE_REFUSED, "store.erasure_refused")


class KnownErasures:
    """The orders to erase that are known, and the reports of devices about them.

    Args:
        store: the bucket or folder with the log of orders and the reports.
        verify: checks an order's signature by the public key.

    Attributes:
        following: reads the log.
    """

    def __init__(self, store: WholeStore, verify: Verify) -> None:
        self.following = LedgerFollower(store, verify, refused=_refused)
        self._store = store
        self._reported: set[tuple[str, str]] = set()

    async def load(self) -> None:
        """Read the log and the names of the reports.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        async for entry in self._store.entries(REPORTS):
            match entry.key.split("/"):
                case [_, order, name] if is_order_name(order):
                    self._reported.add((order, name.partition(".")[0]))
        await self.look()

    async def look(self) -> list[LogEntry]:
        """Read what the log has that is new, and write this store's own report on each order.

        Returns:
            all orders, in the order in which they were read.

        Raises:
            StoreUnavailable: the log cannot be read, or a report not written.
        """
        await self.following.look()
        for name in self.following.orders:
            await self.keep_report(Report(name, STORE, {}))
        ERASURES.set(len(self.following.orders))
        ERASURES_READ_AT.set(time.time())
        return list(self.following.orders.values())

    async def keep_report(self, report: Report) -> None:
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
        """Say whether a device has reported on an order."""
        return (order, device) in self._reported

    def orders_due(self, device: str) -> list[LogEntry]:
        """Return the orders that concern a device and that it has not reported on."""
        return [
            order
            for name, order in self.following.orders.items()
            if order.selection.device in (None, device) and not self.is_reported(name, device)
        ]

    def check(self, admitted: Admitted) -> None:
        """Check that a face was not erased, before it is stored.

        Raises:
            Refused: `erased`.
            StoreUnavailable: the log has not been read lately, so it is not known.
        """
        self.following.check_known()
        face = admitted.face
        if self.following.erased_faces.takes(face.source, face.id, face.extensions.get("visit")):
            raise Refused(ERASED, face.id)

    def has_erased(self, source: Source, face_id: str, visit: str | None) -> bool:
        """Say whether a face was erased; `visit` is None for one that belongs to none."""
        return self.following.erased_faces.takes(source, face_id, visit)

    def is_erased(self, row: IndexRow) -> bool:
        """Say whether the face of a row of the index was erased."""
        return self.following.erased_faces.takes(row.key.source, row.id, row.visit)


def _refused(refusal: Refused) -> None:
    refusals.count(refusal.reason, detail=refusal.detail)


MOST_DEVICES = 100_000
"""Of how many devices a connection remembers which orders were sent; beyond that it starts over."""

log = structlog.get_logger()


class ErasurePublisher:
    """Publishes the orders for each device, retained, when it comes online at a broker; takes its reports.

    Nothing depends on the broker's memory: a device that reconnects says that it is online, and is sent its
    orders again. A report is made durable first; then its order is removed from the broker.

    Args:
        broker: where to connect.
        erasures: the orders and the reports; shared by all brokers.

    Attributes:
        link: the connection, which the caller opens and closes.
    """

    def __init__(self, broker: Broker, erasures: KnownErasures) -> None:
        self._erasures = erasures
        self._online: set[str] = set()
        self._sent: set[tuple[str, str]] = set()
        self.link = Link(
            "cloud_erasures",
            broker,
            identity="store-erasures",
            subscriptions=[f"{ROOT}/+/forward/status", f"{ROOT}/+/erased/+"],
            on_up=self._start_over,
        )

    async def listen(self) -> None:
        """Take status messages and reports of devices, until cancelled."""
        async for delivery in self.link:
            try:
                await self._handle(delivery.message)
            except Refused as refusal:
                refusals.count(refusal.reason, topic=delivery.message.topic[:200], detail=refusal.detail)
            except StoreUnavailable as error:
                # The order stays on the broker, and the device reports again when it is sent it again.
                log.warning("store.erasure_report_not_kept", reason=error.reason, detail=error.detail)
                self._sent.clear()
            delivery.acknowledge()

    def send_all(self) -> None:
        """Send every device that is online the orders that it was not sent yet."""
        for device in sorted(self._online):
            self._send_orders(device)

    async def _handle(self, message: Message) -> None:
        match message.topic.split("/"):
            case [_, device, "forward", "status"] if is_name(device):
                self._handle_status(device, message.payload)
            case [_, device, "erased", order] if is_name(device) and is_order_name(order):
                await self._handle_report(device, order, message)
            case _:
                raise Refused("bad_topic", message.topic[:200])

    def _handle_status(self, device: str, state: bytes) -> None:
        if state != b"online":
            self._online.discard(device)
            return
        if len(self._online) >= MOST_DEVICES:
            self._start_over()
        self._online.add(device)
        self._send_orders(device)

    async def _handle_report(self, device: str, order: str, message: Message) -> None:
        report = read_report(message.payload)
        if (report.device, report.order) != (device, order):
            raise Refused("bad_report", "of another device or order than its topic")
        if order not in self._erasures.following.orders:
            raise Refused("unknown_order", order)
        await self._erasures.keep_report(report)
        log.info("store.erasure_reported", device=device, order=order, **report.gone)
        self._publish(_topic(device, order), b"")

    def _send_orders(self, device: str) -> None:
        for order in self._erasures.orders_due(device):
            if (device, order.name) not in self._sent and self._publish(
                _topic(device, order.name), order.line
            ):
                self._sent.add((device, order.name))

    def _publish(self, topic: str, payload: bytes) -> bool:
        try:
            self.link.publish(Message(topic=topic, payload=payload, qos=1, retain=True))
        except (LinkDown, PacketTooLarge) as error:
            log.warning("store.erasure_not_told", topic=topic, detail=str(error))
            return False
        return True

    def _start_over(self) -> None:
        self._online.clear()
        self._sent.clear()


def _topic(device: str, order: str) -> str:
    return device_topic(device, f"erase/{order}")


async def follow(erasures: KnownErasures, all_orders: list[ErasurePublisher], every_s: float) -> None:
    """Read the log every `every_s` seconds and send devices what is new, until cancelled."""
    is_told = False
    known: list[LogEntry] = []
    while True:
        try:
            found = await erasures.look()
        except StoreUnavailable as error:
            if not is_told:
                log.warning("store.erasures_unreadable", reason=error.reason, detail=error.detail)
            is_told = True
        else:
            for order in found[len(known) :]:
                log.info("store.erasure_known", order=order.name, selection=str(order.selection))
            known, is_told = found, False
            for orders in all_orders:
                orders.send_all()
        await asyncio.sleep(every_s)
