"""A driver in detect's place: it holds each face until forward has receipted it, and publishes it again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.common.errors import Refused
from services.common.faces import Face, encode_face
from services.common.mqtt import Broker, Link, LinkDown
from services.common.receipts import decode_receipt
from tests.custody.faces import DEVICE, renamed

WRONG_DEVICE = "shed"
"""How a misconfigured edge calls itself for a while."""
MOST_HELD = 400
FIRST_RESEND_S = 1.0
MOST_RESEND_S = 10.0


@dataclass(slots=True)
class _Held:
    number: int
    due_s: float
    wait_s: float = FIRST_RESEND_S


@dataclass(slots=True)
class Ledger:
    """What the driver knows of every face, by its number.

    Attributes:
        numbers: which face an id is: of each face the one under its own device, and that under a wrong one,
            if it was ever published so.
        offered_at: when it was first published, Unix time.
        taken: receipted by forward.
        times_published: how often it was published.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    offered_at: dict[int, float] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    times_published: dict[int, int] = field(default_factory=dict)


class Driver:
    """Publishes faces at a steady pace; see `driving`.

    Args:
        broker: the local one.
        make: returns the face of a number.
        device: says under which device's name it publishes just now.

    Attributes:
        ledger: what it knows.
    """

    def __init__(self, broker: Broker, make: Callable[[int], Face], device: Callable[[], str]) -> None:
        self.ledger = Ledger()
        self._make = make
        self._device = device
        self._held: dict[int, _Held] = {}
        self._link = Link(
            "local",
            broker,
            identity="driver",
            subscriptions=[f"faceferry/{device}/taken" for device in (DEVICE, WRONG_DEVICE)],
            on_up=self._start_over,
        )

    @property
    def held(self) -> int:
        """Faces without a receipt."""
        return len(self._held)

    def offered(self) -> Iterator[Face]:
        """Yield every face that was published, as it must lie in the bucket."""
        return map(self._make, self.ledger.offered_at)

    async def offer(self, numbers: range, faces_per_s: float) -> None:
        """Publish these faces, later where too many have no receipt yet."""
        for number in numbers:
            while len(self._held) >= MOST_HELD:  # noqa: ASYNC110 - detect, too, looks at its bound again
                await asyncio.sleep(0.02)
            self.ledger.offered_at[number] = time.time()
            self._held[number] = held = _Held(number, 0.0)
            self._publish(held)
            await asyncio.sleep(1 / faces_per_s)

    async def resend(self) -> None:
        """Publish again what was not receipted in time."""
        while True:
            await asyncio.sleep(0.1)
            now_s = time.monotonic()
            for held in [each for each in self._held.values() if each.due_s <= now_s]:
                self._publish(held)

    async def receive(self) -> None:
        """Let go of what forward has on its disk."""
        async for delivery in self._link:
            delivery.acknowledge()
            with contextlib.suppress(Refused):
                for face_id in decode_receipt(delivery.message).ids:
                    if (number := self.ledger.numbers.get(face_id)) is not None:
                        self.ledger.taken.add(number)
                        self._held.pop(number, None)

    def _publish(self, held: _Held) -> None:
        face = self._make(held.number)
        self.ledger.numbers[face.id] = held.number
        if (device := self._device()) != DEVICE:
            face = renamed(face, device)
            self.ledger.numbers[face.id] = held.number
        with contextlib.suppress(LinkDown):
            self._link.publish(encode_face(face, expiry_s=int(held.wait_s)))
            times = self.ledger.times_published
            times[held.number] = times.get(held.number, 0) + 1
        held.due_s = time.monotonic() + held.wait_s
        held.wait_s = min(MOST_RESEND_S, held.wait_s * 2)

    def _start_over(self) -> None:
        for held in self._held.values():
            held.due_s, held.wait_s = 0.0, FIRST_RESEND_S


@asynccontextmanager
async def driving(
    broker_url: str, make: Callable[[int], Face], device: Callable[[], str] = lambda: DEVICE
) -> AsyncIterator[Driver]:
    """A driver at work on a broker."""
    driver = Driver(Broker(broker_url), make, device)
    async with driver._link:
        tasks = [asyncio.create_task(driver.resend()), asyncio.create_task(driver.receive())]
        try:
            yield driver
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
