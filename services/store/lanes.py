"""The store's second connection to a broker: for receipts, and for faces while a device floods the first."""

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Sequence

import structlog

from services.common.mqtt import Broker, Link, LinkDown
from services.store.admission import device_of
from services.store.floods import FloodMonitor, lane_filters
from services.store.metrics import COPIES, LANES

LOOK_EVERY_S = 0.25
MOST_OPENED_AT_ONCE = 256
"""How many lanes are opened at a time, so that a broker is not kept busy with subscriptions."""
REST_S = 0.006
"""The pause after each batch read from the first connection while lanes are open: reading all of a flood
would take time from everything else."""
OVERLAP_S = 2.0
"""For how long after a lane is opened its device's messages are still taken from the first connection, which
delivers what came before; what waits there for longer is sent again anyway."""

log = structlog.get_logger()


class Lanes:
    """Opens and closes lanes: subscriptions to single devices, on a connection that no flood fills.

    A broker reads one packet of each connection in turn: on the first one receipts would wait behind the
    acknowledgements of a flood. It also has a queue for each connection: the messages of a device that has a
    lane do not wait in the queue that the flood fills. They are delivered twice then, and those on the first
    connection are ignored.

    Args:
        broker: where to connect.
        floods: says which devices need a lane.
        filters: of the first connection's shared subscription.
        receive_maximum: faces that the broker may deliver before the first is acknowledged.
        wants: says by its topic and size whether a message is accepted.

    Attributes:
        link: the connection.
    """

    def __init__(
        self,
        broker: Broker,
        floods: FloodMonitor,
        filters: Sequence[str],
        *,
        receive_maximum: int,
        wants: Callable[[str, int], bool],
    ) -> None:
        self.link = Link(
            "cloud_receipts",
            broker,
            identity="store-receipts",
            receive_maximum=receive_maximum,
            wants=wants,
            on_down=self._forget,
        )
        self._floods = floods
        self._filters = filters
        self._open_s: dict[str, float] = {}
        self._gauged = 0
        self._is_flood = False

    def is_copy(self, topic: str) -> bool:
        """Say whether a message on the first connection is a copy of one in a lane, and count it if so."""
        if not self._open_s:
            return False
        if time.monotonic() - self._open_s.get(device_of(topic), math.inf) < OVERLAP_S:
            return False
        COPIES.inc()
        return True

    def rest_s(self) -> float:
        """Return for how many seconds the first connection pauses after each batch that it reads."""
        return REST_S if self._open_s else 0.0

    async def run(self) -> None:
        """Open and close lanes as floods come and go, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            lanes_wanted = self._floods.lanes_wanted(time.monotonic())
            self._log_floods()
            if not self.link.is_up:
                continue
            self._close(sorted(self._open_s.keys() - lanes_wanted))
            try:
                await self._open(sorted(lanes_wanted - self._open_s.keys())[:MOST_OPENED_AT_ONCE])
            except LinkDown:
                continue  # all lanes are opened again on the next connection
            self._update_gauge()

    def _close(self, devices: Sequence[str]) -> None:
        for device in devices:
            del self._open_s[device]
        self.link.unsubscribe(self._topics(devices))

    async def _open(self, devices: Sequence[str]) -> None:
        topics = self._topics(devices)
        if not topics:
            return
        # Until the broker grants it, or where it refuses, there is no lane; but there may be one to close.
        self._open_s.update(dict.fromkeys(devices, math.inf))
        granted = await self.link.subscribe(topics)
        now_s = time.monotonic()
        for device in devices:
            if granted.issuperset(lane_filters(self._filters, device)):
                self._open_s[device] = now_s

    def _topics(self, devices: Sequence[str]) -> list[str]:
        return list(itertools.chain.from_iterable(lane_filters(self._filters, device) for device in devices))

    def _forget(self) -> None:
        self._open_s.clear()
        self._update_gauge()

    def _update_gauge(self) -> None:
        LANES.inc(len(self._open_s) - self._gauged)  # a gauge of all brokers together
        self._gauged = len(self._open_s)

    def _log_floods(self) -> None:
        is_flood = bool(self._floods.flooding)
        if is_flood and not self._is_flood:
            log.warning(
                "store.flood_began", broker=self.link.address, devices=sorted(self._floods.flooding)[:10]
            )
        elif self._is_flood and not is_flood:
            log.info("store.flood_over", broker=self.link.address)
        self._is_flood = is_flood
