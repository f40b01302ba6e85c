from services.capture.cameras import parse_camera
from services.capture.metrics import DROPPED, Tally
from services.capture.subscription import MOST_WAITING_BYTES, Subscription
from services.common.mqtt.broker import Broker
from services.common.mqtt.delivery import PACKET_BYTES, Inbox
from services.common.mqtt.packets import Publication


def publication(payload: bytes) -> Publication:
    packet = bytearray(b"\x00\x01a" + b"\x00" + payload)
    return Publication("a", 0x30, 0, packet, 3)


async def test_what_waits_is_weighed_until_it_is_taken_or_forgotten() -> None:
    inbox = Inbox("local", lambda _topic, _size: True, lambda: None)
    client = None
    inbox.open()
    for size in (100, 200):
        inbox.receive(client, publication(bytes(size)))  # type: ignore[arg-type]
    assert inbox.waiting_bytes == 300 + 2 * (4 + PACKET_BYTES)
    assert (await inbox.get()).message.payload == bytes(100)
    assert inbox.waiting_bytes == 200 + 4 + PACKET_BYTES
    inbox.close()
    inbox.receive(client, publication(bytes(1000)))  # type: ignore[arg-type]
    inbox.close()
    assert inbox.waiting_bytes == 200 + 4 + PACKET_BYTES


async def test_a_topic_that_comes_too_fast_is_dropped_and_counted_before_it_fills_the_memory() -> None:
    camera = parse_camera("weighed=mqtt://127.0.0.1/a")
    subscription = Subscription(camera, "porch", Broker(""), start_timeout_s=1, tally=Tally("weighed"))
    link = subscription._link()
    inbox = link._inbox
    inbox.open()
    for _ in range(3):
        inbox.receive(None, publication(bytes(MOST_WAITING_BYTES // 2 - PACKET_BYTES - 4)))  # type: ignore[arg-type]
    assert link.waiting_bytes == MOST_WAITING_BYTES
    assert DROPPED.labels("weighed", "queue_full")._value.get() == 1
