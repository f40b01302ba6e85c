"""The store's second connection: for receipts, and for what is sent while a device floods the first."""

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
"""So many lanes are opened at a look: a broker has other things to do."""
REST_S = 0.006
"""So long is the first connection left alone meanwhile after each moment of reading: to read what is too much
takes time from all else."""
OVERLAP_S = 2.0
"""For so long after a lane was opened both are listened to: the first connection hands over what came before,
and what waits there for longer is sent again anyway."""

log = structlog.get_logger()


class Lanes:
    """Opens and closes lanes past a flood.

    A broker reads one packet of each connection in turn: on the same one receipts would wait behind the
    acknowledgements of a flood. And it has a queue for each: what a device sends whose topics are subscribed
    to here, too, does not wait in the one that the flood fills. It comes twice, then, and what comes on the
    first connection is left there.

    Args:
        broker: where to.
        floods: says for whom.
        filters: those of the first connection.
        receive_maximum: faces that the broker may hand over before the first is stored.
        wants: says of a message, by its topic and its size, whether it is wanted.

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

    def delivers(self, topic: str) -> bool:
        """Say of a message on the first connection whether it comes here as well, and count it if so."""
        if not self._open_s:
            return False
        if time.monotonic() - self._open_s.get(device_of(topic), math.inf) < OVERLAP_S:
            return False
        COPIES.inc()
        return True

    def rest_s(self) -> float:
        """Return how long to leave unread what more there is on the first connection."""
        return REST_S if self._open_s else 0.0

    async def run(self) -> None:
        """Open and close lanes as they are wanted, until cancelled."""
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
                continue  # whatever was lost is asked for again on the next connection
            self._update_gauge()

    def _close(self, devices: Sequence[str]) -> None:
        for device in devices:
            del self._open_s[device]
        self.link.unsubscribe(self._topics(devices))

    async def _open(self, devices: Sequence[str]) -> None:
        topics = self._topics(devices)
        if not topics:
            return
        # Until the broker has said so, and where it refuses, there is none; but there may be one to close.
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
        LANES.inc(len(self._open_s) - self._gauged)  # other brokers have theirs
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
