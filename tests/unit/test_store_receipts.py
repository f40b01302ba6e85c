import asyncio
import json

from services.common.mqtt import LinkDown
from services.common.wire.message import Message
from services.common.wire.receipts import MAX_IDS, Receipt, decode_receipt
from services.store.incoming import ReceiptBatches
from tests.storing import face

IDS = [face(number).id for number in range(3)]


class Wire:
    """Collects what is published; can be cut."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.is_cut = False

    def publish(self, message: Message) -> None:
        if self.is_cut:
            raise LinkDown("cut")
        self.messages.append(message)

    @property
    def receipts(self) -> list[tuple[str, Receipt]]:
        return [(message.topic, decode_receipt(message)) for message in self.messages]


async def test_answers_to_a_device_go_together_and_to_it_alone() -> None:
    wire = Wire()
    batches = ReceiptBatches(wire.publish)
    batches.stored("porch", IDS[0])
    batches.refused("porch", IDS[1], "id_mismatch")
    batches.stored("garden", IDS[2])
    assert wire.messages == []
    await asyncio.sleep(0.1)
    assert dict(wire.receipts) == {
        "faceferry/porch/stored": Receipt(frozenset({IDS[0]}), {IDS[1]: "id_mismatch"}),
        "faceferry/garden/stored": Receipt(frozenset({IDS[2]}), {}),
    }


async def test_what_is_refused_without_an_id_is_told_as_well() -> None:
    wire = Wire()
    batches = ReceiptBatches(wire.publish)
    batches.refused("Jetson-NX", "20260131T235959.007Z-0", "bad_topic")
    batches.refused("Jetson-NX", "", "no_properties")
    await asyncio.sleep(0.1)
    [message] = wire.messages
    assert message.topic == "faceferry/Jetson-NX/stored"
    told = [(each["id"], each["reason"]) for each in json.loads(message.payload)["unnamed"]]
    assert told == [("20260131T235959.007Z-0", "bad_topic"), ("", "no_properties")]


async def test_a_full_batch_does_not_wait() -> None:
    wire = Wire()
    batches = ReceiptBatches(wire.publish)
    for number in range(MAX_IDS):
        batches.stored("porch", f"{number:08}{IDS[0][8:]}")
    assert [len(receipt.ids) for _, receipt in wire.receipts] == [MAX_IDS]


async def test_answers_without_a_link_are_dropped_and_later_ones_are_sent() -> None:
    wire = Wire()
    batches = ReceiptBatches(wire.publish)
    wire.is_cut = True
    batches.stored("porch", IDS[0])
    await asyncio.sleep(0.1)
    wire.is_cut = False
    batches.stored("porch", IDS[1])
    await asyncio.sleep(0.1)
    assert [receipt.ids for _, receipt in wire.receipts] == [{IDS[1]}]


async def test_devices_without_answers_due_are_forgotten() -> None:
    batches = ReceiptBatches(Wire().publish)
    for number in range(100):
        batches.stored(f"device-{number}", IDS[0])
    await asyncio.sleep(0.1)
    assert not batches._due
