import asyncio

import pytest

from services.common import faces
from services.common.message import Message
from services.store import writer as module
from services.store.admission import admit
from services.store.availability import Availability
from services.store.writer import Writer
from tests.storing import TIME, Bucket, face


class Sender:
    """Hands faces to a writer and notes what becomes of them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.stored: list[int] = []
        self.ignored: list[int] = []

    def send(self, number: int) -> None:
        message: Message = faces.encode_face(face(number))
        self._writer.take(
            admit(message, TIME, 10_000),
            lambda: self.stored.append(number),
            lambda: self.ignored.append(number),
        )

    async def until_stored(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.stored) < count:  # noqa: ASYNC110 - the callback is what is under test
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def make_writer(bucket: Bucket, *, concurrency: int = 4, max_waiting_bytes: int = 1_000_000) -> Writer:
    return Writer(bucket, Availability(), concurrency=concurrency, max_waiting_bytes=max_waiting_bytes)


async def test_nothing_is_said_before_a_face_is_durable(bucket: Bucket) -> None:
    async with make_writer(bucket) as writer:
        sender = Sender(writer)
        bucket.is_open.clear()
        sender.send(1)
        await asyncio.sleep(0.05)
        assert (bucket.puts, sender.stored) == (1, [])
        bucket.is_open.set()
        await sender.until_stored(1)
        assert next(iter(bucket.objects.values())).body == face(1).image


async def test_copies_of_a_face_that_is_being_written_are_one_write(bucket: Bucket) -> None:
    async with make_writer(bucket) as writer:
        sender = Sender(writer)
        for _ in range(3):
            sender.send(1)
        assert sender.ignored == [1, 1]
        await sender.until_stored(1)
        sender.send(1)  # its receipt may have been lost: it is answered again
        await sender.until_stored(2)
    assert (bucket.puts, len(bucket.objects)) == (2, 1)


async def test_trouble_is_retried_until_it_is_over(bucket: Bucket) -> None:
    bucket.problems = ["forbidden", "throttled", "throttled", "timeout", "no_bucket"]
    async with make_writer(bucket) as writer:
        sender = Sender(writer)
        sender.send(1)
        await sender.until_stored(1)
    assert (bucket.puts, bucket.problems) == (6, [])


async def test_a_face_in_trouble_does_not_hold_up_the_others(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.3)
    bucket.problems = ["conflict"]
    async with make_writer(bucket, concurrency=1) as writer:
        sender = Sender(writer)
        for number in range(1, 4):
            sender.send(number)
        await sender.until_stored(3)
    assert sender.stored == [2, 3, 1]


async def test_writes_at_a_time_are_bounded(bucket: Bucket) -> None:
    async with make_writer(bucket, concurrency=3) as writer:
        sender = Sender(writer)
        for number in range(20):
            sender.send(number)
        await sender.until_stored(20)
    assert bucket.most_at_a_time == 3


async def test_memory_is_bounded_while_the_bucket_is_away(bucket: Bucket) -> None:
    bound = 3 * max(len(face(number).image) for number in range(10))
    async with make_writer(bucket, max_waiting_bytes=bound) as writer:
        sender = Sender(writer)
        bucket.is_open.clear()
        for number in range(10):
            sender.send(number)
        assert 3 <= 10 - len(sender.ignored) < 5
        bucket.is_open.set()
        await sender.until_stored(10 - len(sender.ignored))
        for number in list(sender.ignored):  # whoever sent them has them still
            sender.send(number)
            await asyncio.sleep(0.01)
        await sender.until_stored(10)
    assert len(bucket.objects) == 10


async def test_cancelling_gives_up_what_is_not_durable_without_a_word(bucket: Bucket) -> None:
    bucket.is_open.clear()
    writer = make_writer(bucket)
    sender = Sender(writer)

    async def carry() -> None:
        async with writer:
            sender.send(1)
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(carry(), 0.05)
    assert (sender.stored, sender.ignored) == ([], [])
    assert (bucket.puts, bucket.at_a_time) == (1, 0)
