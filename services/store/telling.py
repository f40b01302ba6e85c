"""Devices are told what to erase, and what they report about it is kept."""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from services.common.erasure.reports import is_order_name, read_report
from services.common.errors import Refused
from services.common.mqtt import Broker, Link, LinkDown, PacketTooLarge
from services.common.storage.objects import StoreUnavailable
from services.common.wire.message import Message
from services.common.wire.topics import ROOT, device_topic, is_name
from services.store.erasures import Erasures, refusals

if TYPE_CHECKING:
    from services.common.erasure.entries import Entry

MOST_DEVICES = 100_000
"""Of which one connection remembers what they were told; of more all are told anew."""

log = structlog.get_logger()


class Telling:
    """Puts the orders of a device on a broker as soon as it says there that it is online, for that to keep.

    No promise rests on a broker's memory: who comes back after it has lost that says so, and is told again.
    What a device has reported is kept in the store first; then its order is taken from the broker.

    Use it as an async context manager, which keeps the connection.

    Args:
        broker: which one.
        erasures: what was ordered, and reported.
    """

    def __init__(self, broker: Broker, erasures: Erasures) -> None:
        self._erasures = erasures
        self._online: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._link = Link(
            "cloud_erasures",
            broker,
            identity="store-erasures",
            subscriptions=[f"{ROOT}/+/forward/status", f"{ROOT}/+/erased/+"],
            on_up=self._begin,
        )

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.__aexit__(kind, error, trace)

    async def listen(self) -> None:
        """Hear which devices are there, and what they report, until cancelled."""
        async for delivery in self._link:
            try:
                await self._hear(delivery.message)
            except Refused as refusal:
                refusals.count(refusal.reason, topic=delivery.message.topic[:200], detail=refusal.detail)
            except StoreUnavailable as error:
                # It keeps its order, and reports again when it is told again.
                log.warning("store.erasure_report_not_kept", reason=error.reason, detail=error.detail)
                self._told.clear()
            delivery.acknowledge()

    def tell_all(self) -> None:
        """Tell every device that is there what it was not told yet."""
        for device in sorted(self._online):
            self._tell(device)

    async def _hear(self, message: Message) -> None:
        match message.topic.split("/"):
            case [_, device, "forward", "status"] if is_name(device):
                self._hear_state(device, message.payload)
            case [_, device, "erased", order] if is_name(device) and is_order_name(order):
                await self._hear_report(device, order, message)
            case _:
                raise Refused("bad_topic", message.topic[:200])

    def _hear_state(self, device: str, state: bytes) -> None:
        if state != b"online":
            self._online.discard(device)
            return
        if len(self._online) >= MOST_DEVICES:
            self._begin()
        self._online.add(device)
        self._tell(device)

    async def _hear_report(self, device: str, order: str, message: Message) -> None:
        report = read_report(message.payload)
        if (report.device, report.order) != (device, order):
            raise Refused("bad_report", "of another device or order than its topic")
        if order not in self._erasures.following.orders:
            raise Refused("unknown_order", order)
        await self._erasures.keep(report)
        log.info("store.erasure_reported", device=device, order=order, **report.gone)
        self._publish(_topic(device, order), b"")

    def _tell(self, device: str) -> None:
        for order in self._erasures.due(device):
            if (device, order.name) not in self._told and self._publish(
                _topic(device, order.name), order.line
            ):
                self._told.add((device, order.name))

    def _publish(self, topic: str, payload: bytes) -> bool:
        try:
            self._link.publish(Message(topic=topic, payload=payload, qos=1, retain=True))
        except (LinkDown, PacketTooLarge) as error:
            log.warning("store.erasure_not_told", topic=topic, detail=str(error))
            return False
        return True

    def _begin(self) -> None:
        self._online.clear()
        self._told.clear()


def _topic(device: str, order: str) -> str:
    return device_topic(device, f"erase/{order}")


async def look_for_ever(erasures: Erasures, tellings: list[Telling], every_s: float) -> None:
    """Look for what was ordered, and tell devices of it, until cancelled."""
    is_told = False
    known: list[Entry] = []
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
            for telling in tellings:
                telling.tell_all()
        await asyncio.sleep(every_s)
