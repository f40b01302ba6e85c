"""The store service as a process, between a real broker and a real folder or S3 server."""

import asyncio
import base64
import dataclasses
import json
import pickle
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire import faces
from services.common.wire.message import Message
from services.common.wire.topics import Source
from tests.storing import (
    HOSTILE,
    PORCH,
    StoreProcess,
    face,
    images_in,
    jpeg,
    names_in,
    png,
    receipted,
    with_attribute,
)
from tests.support import MosquittoServer, S3Server, eventually

HOSTILE_MESSAGES = 3_000
GARDEN = Source("garden", "back")

Start = Callable[..., StoreProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "faces"


@pytest.fixture
def start(broker: MosquittoServer, folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a store on the test's broker, in the test's folder if not told otherwise."""
    started: list[StoreProcess] = []

    def start(store_url: str | None = None, **environment: str) -> StoreProcess:
        log = tmp_path / f"store-{len(started)}.log"
        store = StoreProcess(broker.url, store_url or folder.as_uri(), log, **environment)
        started.append(store.__enter__())
        return store

    yield start
    for store in started:
        store.kill()


@pytest.fixture
async def edge(broker: MosquittoServer) -> AsyncIterator[Link]:
    """A connection in the place of two devices' forwards."""
    topics = ["faceferry/porch/stored", "faceferry/garden/stored"]
    async with Link("cloud", Broker(broker.url), identity="edge", subscriptions=topics) as link:
        await link.wait_up()
        yield link


def expected(numbers: range, source: Source = PORCH) -> dict[str, bytes]:
    folder = f"dt=2026-01-31/device={source.device}/camera={source.camera}"
    return {f"{folder}/{face(number, source).id}.jpg": jpeg(number) for number in numbers}


def send(edge: Link, numbers: range, source: Source = PORCH) -> None:
    for number in numbers:
        edge.publish(faces.encode_face(face(number, source)))


async def test_faces_of_two_devices_are_stored_byte_for_byte_and_receipted(
    start: Start, edge: Link, folder: Path
) -> None:
    store = await start().until_ready()
    send(edge, range(50))
    send(edge, range(50), GARDEN)
    receipt = await receipted(edge, 100)
    assert receipt.ids == {face(n, source).id for n in range(50) for source in (PORCH, GARDEN)}
    assert images_in(folder) == expected(range(50)) | expected(range(50), GARDEN)
    assert store.metric("faceferry_store_puts_total") == 100
    assert store.metric("faceferry_capture_to_store_seconds_count") == 100
    lines = [line for line in store.log if line["event"] == "store.face_stored"]
    assert {line["id"] for line in lines} == receipt.ids
    assert store.stop() == 0


async def test_a_face_sent_again_is_receipted_again_and_stored_once(
    start: Start, edge: Link, folder: Path
) -> None:
    await start().until_ready()
    for _ in range(3):
        send(edge, range(1))
        assert (await receipted(edge, 1)).ids == {face(0).id}
    assert images_in(folder) == expected(range(1))


async def test_what_is_refused_is_told_to_its_device_with_the_reason(
    start: Start, edge: Link, folder: Path
) -> None:
    store = await start().until_ready()
    cut_short = faces.mint(PORCH, face().time, jpeg()[:-2], "image/jpeg", {})
    edge.publish(faces.encode_face(cut_short))
    assert (await receipted(edge, 1)).refused == {cut_short.id: "truncated_image"}
    edge.publish(Message(topic="faceferry/porch/front/face", payload=jpeg(), qos=1))
    await eventually(lambda: store.metric("faceferry_store_refused_total") == 2)
    send(edge, range(1))
    assert (await receipted(edge, 1)).ids == {face(0).id}
    assert images_in(folder) == expected(range(1))


async def test_a_refusal_reaches_whoever_has_a_wrong_name_or_no_id(
    start: Start, broker: MosquittoServer
) -> None:
    await start().until_ready()
    good = faces.encode_face(face())
    wrong = {
        ("Jetson-NX", face().id, "bad_topic"): dataclasses.replace(
            good, topic="faceferry/Jetson-NX/cam/face"
        ),
        ("porch", "20260131T235959.007Z-0", "id_mismatch"): with_attribute(
            good, "id", "20260131T235959.007Z-0"
        ),
        ("porch", "", "no_properties"): dataclasses.replace(good, attributes=()),
    }
    told: set[tuple[str, str, str]] = set()
    async with Link(
        "cloud", Broker(broker.url), identity="foreign", subscriptions=["faceferry/+/stored"]
    ) as link:
        await link.wait_up()
        for message in wrong.values():
            link.publish(message)
        async with asyncio.timeout(20):
            while len(told) < len(wrong):
                message = (await anext(link)).message
                body, device = json.loads(message.payload), message.topic.split("/")[1]
                told |= {(device, *answer) for answer in body["refused"].items()}
                told |= {(device, each["id"], each["reason"]) for each in body.get("unnamed", ())}
    assert told == set(wrong)


async def test_bare_images_on_a_foreign_topic_are_welcome(start: Start, edge: Link, folder: Path) -> None:
    await start().until_ready()
    edge.publish(Message(topic="test_topic", payload=png()))
    edge.publish(Message(topic="test_topic", payload=jpeg(), qos=1))
    await eventually(lambda: len(images_in(folder)) == 2)
    assert set(images_in(folder).values()) == {png(), jpeg()}
    assert all("/device=unknown/camera=unknown/" in path for path in images_in(folder))


async def test_a_bare_image_is_stored_under_the_camera_that_its_topic_names(
    start: Start, edge: Link, folder: Path
) -> None:
    topics = "faceferry/+/+/face,cam/{camera}/faces,hw03=lab/door"
    store = await start(FACEFERRY_STORE_TOPICS=topics).until_ready()
    edge.publish(Message(topic="cam/front/faces", payload=png(), qos=1))
    edge.publish(Message(topic="hw03", payload=base64.b64encode(jpeg()), qos=1))
    for payload in (b"text", b'{"image": "/9j/"}', pickle.dumps(jpeg())):
        edge.publish(Message(topic="hw03", payload=payload, qos=1))
    await eventually(lambda: len(images_in(folder)) == 2)
    await eventually(lambda: store.metric("faceferry_store_refused_total") == 3)
    assert {path.split("/", 1)[1].rpartition("/")[0]: image for path, image in images_in(folder).items()} == {
        "device=unknown/camera=front": png(),
        "device=lab/camera=door": jpeg(),
    }
    said = [line["reason"] for line in store.log if line["event"] == "store.face_refused"]
    assert sorted(said) == ["json", "pickle", "text"]


async def test_nothing_is_receipted_while_the_bucket_is_away_and_all_of_it_later(
    start: Start, edge: Link, s3: S3Server
) -> None:
    s3.create_bucket("faces")
    store = await start("s3://faces/home", **s3.environment).until_ready()
    s3.kill()
    send(edge, range(30))
    await eventually(lambda: store.problems() == {"store": "unreachable"})
    with pytest.raises(TimeoutError):
        await receipted(edge, 1, timeout_s=0.5)
    s3.start()
    assert (await receipted(edge, 30)).ids == {face(number).id for number in range(30)}
    assert images_in(s3.folder / "faces" / "home") == expected(range(30))
    await store.until_ready()
    events = [line["event"] for line in store.log if "available" in line["event"]]
    assert events == ["store.available", "store.unavailable", "store.available"]


async def test_a_missing_bucket_is_waited_for(start: Start, edge: Link, s3: S3Server) -> None:
    store = start("s3://faces/home", **s3.environment)
    await eventually(lambda: store.problems().get("store") == "no_bucket")
    s3.create_bucket("faces")
    await store.until_ready()
    send(edge, range(1))
    assert (await receipted(edge, 1)).ids == {face(0).id}


async def test_replicas_share_the_work_and_what_a_killed_one_held_is_stored_by_the_other(
    start: Start, edge: Link, folder: Path
) -> None:
    one, other = start(), start()
    await one.until_ready()
    await other.until_ready()
    send(edge, range(200))
    await eventually(lambda: len(images_in(folder)) > 20)
    one.kill()
    missing = set(range(200))
    by_id = {face(number).id: number for number in missing}
    while missing:  # as forward does: what is not receipted in time is sent again
        try:
            receipt = await receipted(edge, 1, timeout_s=0.5)
        except TimeoutError:
            for number in missing:
                send(edge, range(number, number + 1))
        else:
            missing -= {by_id[face_id] for face_id in receipt.ids}
    assert images_in(folder) == expected(range(200))
    assert other.metric("faceferry_store_puts_total") > 50


async def test_a_broker_that_was_killed_is_found_again(
    start: Start, edge: Link, folder: Path, broker: MosquittoServer
) -> None:
    store = await start().until_ready()
    broker.kill()
    await eventually(lambda: "cloud" in store.problems())
    broker.start()
    await store.until_ready()
    await edge.wait_up()
    send(edge, range(5))
    assert len((await receipted(edge, 5)).ids) == 5
    assert images_in(folder) == expected(range(5))


async def test_hostile_messages_are_refused_each_and_leave_no_trace(
    start: Start, edge: Link, folder: Path
) -> None:
    store = await start().until_ready()
    rng = random.Random(1)
    await _send_hostile(edge, store, rng, HOSTILE_MESSAGES // 3)
    resident_bytes = store.resident_bytes
    await _send_hostile(edge, store, rng, HOSTILE_MESSAGES - HOSTILE_MESSAGES // 3)
    assert store.metric("faceferry_store_refused_total") == HOSTILE_MESSAGES
    assert store.resident_bytes - resident_bytes < 16 * 1024 * 1024
    assert images_in(folder) == {}
    assert names_in(folder) == {".faceferry"}
    send(edge, range(1))
    while face(0).id not in (await receipted(edge, 1)).ids:
        pass


async def test_settings_that_cannot_work_end_the_service_with_status_2(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url, hint in (
        ("gs://faces", "FACEFERRY_STORE_URL"),
        ((tmp_path / "file").as_uri(), "cannot be written"),
    ):
        store = start(url)
        assert store.wait() == 2
        assert hint in store.output
        assert "Traceback" not in store.output


async def _send_hostile(edge: Link, store: StoreProcess, rng: random.Random, count: int) -> None:
    """Send in steps that stay below the broker's queue, for it drops what goes beyond."""
    before = store.metric("faceferry_store_refused_total")
    kinds = list(HOSTILE)
    for number in range(count):
        while True:
            message = HOSTILE[rng.choice(kinds)](rng)
            if _is_sendable(message):
                break
        edge.publish(message)
        if number % 200 == 199:
            sent = before + number + 1
            await eventually(lambda: store.metric("faceferry_store_refused_total") >= sent)  # noqa: B023
    await eventually(lambda: store.metric("faceferry_store_refused_total") >= before + count)


def _is_sendable(message: Message) -> bool:
    """Whether the broker hands a message on: it takes control characters for a malformed packet."""
    levels = message.topic.split("/")
    text = message.topic + "".join(map("".join, message.attributes))
    return len(levels) == 4 and levels[-1] == "face" and text.isprintable()
