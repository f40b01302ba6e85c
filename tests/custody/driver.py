"""A driver in detect's place: it holds each face until forward has receipted it, and publishes it again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from services.common.errors import Refused
from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.faces import Face, encode_face
from services.common.wire.frames import Frame
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.detect.questions import Questions
from tests.custody.faces import DEVICE, renamed, seen_as

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
    known: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Ledger:
    """What the driver knows of every face, by its number.

    Attributes:
        numbers: which face an id is: of each face the one under its own device, and that under a wrong one,
            if it was ever published so.
        offered_at: when it was first published, Unix time.
        taken: receipted by forward.
        times_published: how often it was published.
        asked: of how many faces forward was asked, and
        answered: of how many it has said whether it wants them.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    offered_at: dict[int, float] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    times_published: dict[int, int] = field(default_factory=dict)
    asked: int = 0
    answered: int = 0


class Driver:
    """Publishes faces at a steady pace; see `driving`.

    Args:
        broker: the local one.
        make: returns the face of a number.
        device: says under which device's name it publishes just now.
        is_asking: whether it asks forward before it publishes, as detect does of visits. All faces are
            published whatever the answer is; those that are wanted say of which visit they are.

    Attributes:
        ledger: what it knows.
    """

    def __init__(
        self,
        broker: Broker,
        make: Callable[[int], Face],
        device: Callable[[], str],
        *,
        is_asking: bool = False,
    ) -> None:
        self.ledger = Ledger()
        self._make = make
        self._device = device
        self._held: dict[int, _Held] = {}
        self._questions = Questions(DEVICE, self._send) if is_asking else None
        self._link = Link(
            "local",
            broker,
            identity="driver",
            subscriptions=[
                *(f"faceferry/{device}/taken" for device in (DEVICE, WRONG_DEVICE)),
                *([self._questions.topic] if self._questions is not None else []),
            ],
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
            known = await self._ask(number)
            self.ledger.offered_at[number] = time.time()
            self._held[number] = held = _Held(number, 0.0, known=known)
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
                if self._questions is not None and delivery.message.topic == self._questions.topic:
                    self._questions.take(delivery.message)
                    continue
                for face_id in decode_receipt(delivery.message).ids:
                    if (number := self.ledger.numbers.get(face_id)) is not None:
                        self.ledger.taken.add(number)
                        self._held.pop(number, None)

    async def _ask(self, number: int) -> Mapping[str, str]:
        """Ask forward whether it wants a face; return what that face has to say of its visit, if it does."""
        if self._questions is None:
            return {}
        face = self._make(number)
        frame = Frame(face.source, number, face.time, b"")
        answer = await self._questions.ask(frame, seen_as(number))
        wanted = None if answer is None else answer.wanted
        self.ledger.asked += 1
        self.ledger.answered += wanted is not None
        return (
            {}
            if not wanted
            else {"visit": wanted[0].visit, "shot": str(wanted[0].shot), "why": wanted[0].why.value}
        )

    def _send(self, message: Message) -> None:
        self._link.publish(message)

    def _publish(self, held: _Held) -> None:
        made = self._make(held.number)
        face = replace(made, extensions={**made.extensions, **held.known})
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
    broker_url: str,
    make: Callable[[int], Face],
    device: Callable[[], str] = lambda: DEVICE,
    *,
    is_asking: bool = False,
) -> AsyncIterator[Driver]:
    """A driver at work on a broker."""
    driver = Driver(Broker(broker_url), make, device, is_asking=is_asking)
    async with driver._link:
        tasks = [asyncio.create_task(driver.resend()), asyncio.create_task(driver.receive())]
        try:
            yield driver
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
