import asyncio

import pytest

from services.common.errors import Refused
from services.common.storage.objects import StoreUnavailable
from services.common.wire import faces
from services.common.wire.topics import Source
from services.store import face_writer as module
from services.store.admission import Admitted, admit
from services.store.availability import Availability
from services.store.face_writer import FaceWriter, Job
from services.store.fair_queue import FairQueue
from tests.storing import PORCH, TIME, Bucket, face

BROKEN = 1_000
"""The number of a face that is refused."""


class Sent:
    """A face on its way in, and what became of it."""

    def __init__(self, number: int, sender: "Sender", source: Source) -> None:
        self._message = faces.encode_face(face(number, source))
        self._number = number
        self._sender = sender
        self.device = source.device
        self.size_bytes = len(self._message.payload)

    def check(self) -> Admitted:
        self._sender.checked.append(self._number)
        if self._number == BROKEN:
            raise Refused("bad_image", "made so")
        return admit(self._message, TIME, 10_000)

    def stored(self, admitted: Admitted) -> None:
        assert admitted.face.image == self._message.payload
        self._sender.stored.append(self._number)

    def refused(self, refusal: Refused) -> None:
        self._sender.refused.append(refusal.reason)

    def ignored(self) -> None:
        self._sender.ignored.append(self._number)


class Sender:
    """Hands faces to a writer and notes what becomes of them."""

    def __init__(self, writer: FaceWriter) -> None:
        self._writer = writer
        self.checked: list[int] = []
        self.stored: list[int] = []
        self.ignored: list[int] = []
        self.refused: list[str] = []

    def send(self, number: int, source: Source = PORCH) -> None:
        self._writer.take(Sent(number, self, source))

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


def make_writer(
    bucket: Bucket,
    availability: Availability | None = None,
    *,
    concurrency: int = 4,
    max_waiting: int = 10_000,
    max_waiting_bytes: int = 1_000_000,
) -> FaceWriter:
    return FaceWriter(
        bucket,
        availability or Availability(),
        FairQueue(max_waiting, max_waiting_bytes),
        concurrency=concurrency,
    )


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


async def test_a_face_that_is_erased_while_it_waits_for_another_try_is_refused(bucket: Bucket) -> None:
    tries: list[str] = []

    def check_erased(admitted: Admitted) -> None:
        tries.append(admitted.face.id)
        if len(tries) < 3:
            raise StoreUnavailable("erasures_unknown")
        if len(tries) > 3:
            raise Refused("erased")

    writer = FaceWriter(
        bucket, Availability(), FairQueue(10, 1_000_000), concurrency=4, check_erased=check_erased
    )
    async with writer:
        sender = Sender(writer)
        bucket.problems = ["timeout"]
        sender.send(1)
        async with asyncio.timeout(60):
            while not sender.refused:  # noqa: ASYNC110 - the callback is what is under test
                await asyncio.sleep(0.001)
        assert (sender.refused, sender.stored, bucket.puts) == (["erased"], [], 1)
        assert len(tries) == 4
        assert writer.waiting_summary() == {}
    assert not bucket.objects


async def test_copies_of_a_face_that_is_being_written_are_one_write(bucket: Bucket) -> None:
    async with make_writer(bucket) as writer:
        sender = Sender(writer)
        for _ in range(3):
            sender.send(1)
        await sender.until_stored(1)
        assert sender.ignored == [1, 1]
        sender.send(1)  # its receipt may have been lost: it is answered again
        await sender.until_stored(2)
    assert (bucket.puts, len(bucket.objects)) == (2, 1)


async def test_of_a_device_that_is_held_back_few_are_checked_at_a_time_though_all_are_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_S", 0.05)
    queue = FairQueue[Job](10_000, 1_000_000, lambda _: 2)
    async with FaceWriter(bucket, Availability(), queue, concurrency=4) as writer:
        sender = Sender(writer)
        for _ in range(6):
            sender.send(BROKEN)
        await asyncio.sleep(0.02)
        assert sender.refused == ["bad_image"] * 2
        async with asyncio.timeout(30):
            while len(sender.refused) < 6:  # noqa: ASYNC110 - the callback is what is under test
                await asyncio.sleep(0.001)


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
        bucket.is_open.clear()
        await asyncio.sleep(0.05)
        bucket.is_open.set()
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


async def test_a_flood_is_neither_checked_nor_written_before_a_few_faces_of_another_device(
    bucket: Bucket,
) -> None:
    async with make_writer(bucket, concurrency=2, max_waiting=50) as writer:
        loud, quiet = Sender(writer), Sender(writer)
        bucket.is_open.clear()
        for number in range(200):
            loud.send(number, Source("loud", "front"))
        for number in range(5):
            quiet.send(number)
        await asyncio.sleep(0.01)
        bucket.is_open.set()
        await quiet.until_stored(5)
        assert len(loud.stored) < 10
        assert len(loud.checked) < 12
        assert quiet.ignored == []
        await loud.until_stored(45)
    assert loud.stored == list(range(45))  # the newest had no room
    assert sorted(loud.ignored) == list(range(45, 200))


async def test_many_faces_in_trouble_are_not_all_tried_again_and_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TRIED_IN_TROUBLE", 10)
    availability = Availability()
    bucket.problems = ["unreachable"] * 10_000
    bucket.trouble = "unreachable"
    async with make_writer(bucket, availability) as writer, asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(availability.watch(bucket))
        sender = Sender(writer)
        sender.send(0)
        while not availability.is_in_trouble:  # noqa: ASYNC110 - it is found out in time
            await asyncio.sleep(0.01)
        for number in range(1, 100):
            sender.send(number, Source(f"device-{number}", "front"))
        await asyncio.sleep(0.2)
        assert len(sender.checked) < 20
        bucket.problems, bucket.trouble = [], None
        await sender.until_stored(100)
        watch.cancel()
    assert len(bucket.objects) == 100


async def test_a_face_in_trouble_that_loses_its_place_is_no_trouble_any_more(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.2)
    now_s = 0.0
    availability = Availability(lambda: now_s)
    bucket.problems = ["forbidden"] * 2
    async with make_writer(bucket, availability, max_waiting=2) as writer:
        loud, quiet = Sender(writer), Sender(writer)
        for number in range(2):
            loud.send(number, Source("loud", "front"))
        while bucket.problems:  # noqa: ASYNC110 - the bucket is asked by the writer alone
            await asyncio.sleep(0.001)
        quiet.send(1)
        assert loud.ignored == [1]
        await quiet.until_stored(1)
        await loud.until_stored(1)
    now_s = 100.0
    task = asyncio.create_task(availability.watch(bucket))
    await asyncio.sleep(0.01)
    task.cancel()
    assert availability.why_not_ready() is None
    assert bucket.puts == 4


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
