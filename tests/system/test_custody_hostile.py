"""Hostile messages through real brokers at every subscriber, and into every decoder.

FACEFERRY_TEST_HOSTILE_MESSAGES says how many each subscriber gets, FACEFERRY_TEST_HOSTILE_DECODED how many
all decoders together: a million takes some minutes.
"""

import asyncio
import dataclasses
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest
from paho.mqtt.client import topic_matches_sub

from services.common.errors import Refused
from services.common.mqtt import Broker, Link
from services.common.wire.faces import encode_face
from services.common.wire.frames import Done, Frame, encode_done, encode_frame
from services.common.wire.message import Message
from services.common.wire.receipts import encode_stored
from services.common.wire.topics import device_topic
from services.up.brokers import MAX_PACKET_BYTES
from tests.custody.comparison import objects_in
from tests.custody.faces import DEVICE, known_face
from tests.custody.hostile import (
    DECODERS,
    hostile_done,
    hostile_face,
    hostile_frame,
    hostile_receipt,
    sendable,
)
from tests.custody.rig import Rig, rig
from tests.custody.run import ready
from tests.storing import PORCH, TIME, jpeg, message_of
from tests.support import eventually

pytestmark = pytest.mark.long

MESSAGES = int(os.environ.get("FACEFERRY_TEST_HOSTILE_MESSAGES", "1500"))
IN_PROCESS = int(os.environ.get("FACEFERRY_TEST_HOSTILE_DECODED", "40000"))
WARM_UP = 1_000
MOST_GROWTH_BYTES = 24 * 1024 * 1024
AT_ONCE = 100
CHUNK = 1_000
COUNTERS = {
    "store": "faceferry_store_refused_total",
    "forward": "faceferry_forward_dropped_total",
    "detect": "faceferry_detect_messages_refused_total",
    "capture": "faceferry_mqtt_dropped_total",
}
CAMERA = "front=test://?fps=2&size=320x240"


def feed(decoder: str, messages: int, rng: random.Random) -> Counter[str]:
    """Give a decoder so many messages; return how many it refused by reason, and how many it took."""
    decode, make = DECODERS[decoder]
    found: Counter[str] = Counter()
    for _ in range(messages):
        try:
            decode(make(rng))
        except Refused as refusal:
            found[refusal.reason] += 1
        else:
            found["taken"] += 1
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_decoder_refuses_or_takes_keeps_nothing_and_does_nothing_else(decoder: str) -> None:
    rng = random.Random(7)
    feed(decoder, WARM_UP, rng)
    before_bytes = psutil.Process().memory_info().rss
    found = feed(decoder, IN_PROCESS // len(DECODERS), rng)
    assert found.total() == IN_PROCESS // len(DECODERS)
    assert found.total() > found["taken"]
    assert psutil.Process().memory_info().rss - before_bytes < MOST_GROWTH_BYTES


_FACE = message_of(jpeg())
WHOLE = {
    "forward's intake": _FACE,
    "store's admission": _FACE,
    "images": _FACE,
    "receipts": encode_stored(PORCH.device, [], {}),
    "frames": encode_frame(Frame(PORCH, 7, TIME, b"")),
    "answers": encode_done(Done(PORCH, 7, faces=("x",))),
}
"""Messages with which nothing is wrong."""
REFUSED_AS = {
    "forward's intake": "id_mismatch",
    "store's admission": "too_large",
    "images": "not_an_image",
    "receipts": "too_large",
    "answers": "bad_json",
}
"""Why the largest payload is refused; what frames hold is looked at by what decodes pictures."""


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_largest_payload_of_the_protocol_is_refused_and_copied_once_at_most(decoder: str) -> None:
    """256 MB, as a broker without a limit of its own hands on."""
    decode, _ = DECODERS[decoder]
    huge = dataclasses.replace(WHOLE[decoder], payload=bytes(268_435_000))
    tracemalloc.start()
    try:
        if decoder in REFUSED_AS:
            with pytest.raises(Refused) as caught:
                decode(huge)
            assert caught.value.reason == REFUSED_AS[decoder]
        else:
            assert isinstance(decode(huge), Frame)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1.1 * len(huge.payload)


def messages(rng: random.Random) -> dict[tuple[str, str], Iterator[Message]]:
    """What each subscriber gets, by broker and service; frames at QoS 1, so that no broker drops any."""
    return {
        ("cloud", "store"): (each for each in sendable(hostile_face, rng) if _is_heard(each)),
        ("cloud", "forward"): sendable(hostile_receipt, rng),
        ("local", "forward"): (each for each in sendable(hostile_face, rng) if _is_ours(each)),
        ("local", "detect"): sendable(hostile_frame, rng),
        ("local", "detect's receipts"): sendable(lambda rng: hostile_receipt(rng, "taken"), rng),
        ("local", "capture"): sendable(hostile_done, rng),
    }


@pytest.mark.timeout(600)
async def test_no_subscriber_minds(tmp_path: Path, s3_program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_DETECTOR", "haar")
    rng = random.Random(11)
    async with rig(tmp_path, s3_program, CAMERA) as stage:
        await ready(stage)
        urls = {"local": stage.local.url, "cloud": stage.cloud.url}
        before_bytes: dict[str, int] = {}
        for count in (MESSAGES // 3, MESSAGES - MESSAGES // 3):
            before_bytes = {name: part.process.resident_bytes for name, part in stage.services.items()}
            for (broker, subscriber), hostile in messages(rng).items():
                service = subscriber.partition("'")[0]
                await send(urls[broker], map(at_the_limit, islice(hostile, 2)))
                for start in range(0, count, CHUNK):
                    await send(urls[broker], islice(hostile, min(CHUNK, count - start)))
                    await settled(stage, service)
        for name, part in stage.services.items():
            assert part.process.resident_bytes - before_bytes[name] < MOST_GROWTH_BYTES, name
            assert part.crashes == 0, name
        for service, counter in COUNTERS.items():
            assert counted(stage, service, counter) >= MESSAGES
        face = known_face(1, 1)
        await send(stage.local.url, [encode_face(face)])
        await eventually(lambda: any(face.id in key for key in objects_in(stage.objects)), 30)
        assert all(key.startswith("dt=") for key in objects_in(stage.objects))
        assert [path.name for path in stage.objects.parent.iterdir()] == [stage.objects.name]


def at_the_limit(message: Message) -> Message:
    """A message on the same topic, as large as the broker lets through."""
    return Message(topic=message.topic, payload=bytes(MAX_PACKET_BYTES - 1_000))


async def settled(stage: Rig, service: str) -> None:
    """Wait until a subscriber has caught up: a broker drops what does not fit into its queue."""
    before = None
    while (now := counted(stage, service, COUNTERS[service])) != before:
        before = now
        await asyncio.sleep(0.1)


async def send(url: str, hostile: Iterable[Message]) -> None:
    """Publish at QoS 1, a few at a time, so that the broker's queues overflow nowhere."""
    sent = acknowledged = 0

    def count(_refusal: str | None) -> None:
        nonlocal acknowledged
        acknowledged += 1

    async with Link("sender", Broker(url), identity="sender") as link:
        await link.wait_up()
        for message in hostile:
            while sent - acknowledged >= AT_ONCE:  # noqa: ASYNC110 - the link calls back in this loop
                await asyncio.sleep(0.002)
            link.publish(_at_qos_1(message), count)
            sent += 1
        await eventually(lambda: acknowledged == sent)
    await asyncio.sleep(0.2)


def counted(stage: Rig, service: str, metric: str) -> float:
    return stage.services[service].process.metric(metric)


def _at_qos_1(message: Message) -> Message:
    return Message(
        topic=message.topic,
        payload=message.payload,
        qos=1,
        content_type=message.content_type,
        attributes=message.attributes,
        correlation=message.correlation,
    )


def _is_heard(message: Message) -> bool:
    """Whether the store has subscribed to the topic: what it never hears it cannot count."""
    return topic_matches_sub("faceferry/+/+/face", message.topic)


def _is_ours(message: Message) -> bool:
    return message.topic.startswith(device_topic(DEVICE, ""))
