"""Our messages against the limits of brokers that cannot be run here, by their own documents.

The same numbers stand in docs/install.md, *Brokers of others*, with where they are from.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.mqtt.packets import packet_bytes
from services.common.wire.faces import encode_face, mint
from services.common.wire.message import MAX_PROPERTIES_BYTES, Message
from services.common.wire.receipts import MAX_IDS, encode_stored
from services.common.wire.status import StatusSequence
from services.common.wire.times import parse_rfc3339
from services.common.wire.topics import Source
from services.detect.settings import DetectSettings
from services.store.knocking import TOPIC as KNOCK
from services.store.settings import StoreSettings

NAME = "n" * 63
"""The longest that a device or a camera may have."""
NOON = parse_rfc3339("2026-03-14T12:00:00.000000Z")
DOCUMENT = Path(__file__).parents[2] / "docs" / "install.md"


@dataclass(frozen=True)
class Limits:
    """What a broker takes, unless it is set otherwise.

    Attributes:
        packet_bytes: the largest message, and
        retained_bytes: the largest that is kept.
        topic_bytes, topic_levels: of a topic.
        client_id_bytes: of a client's id.
        subscriptions: topic filters of one SUBSCRIBE.
        in_flight: messages without an acknowledgement.
    """

    packet_bytes: int
    retained_bytes: int
    topic_bytes: int = 65_535
    topic_levels: int = 128
    client_id_bytes: int = 65_535
    subscriptions: int = 1_000
    in_flight: int = 65_535


BROKERS = {
    "EMQX": Limits(1_048_576, 1_048_576),
    "HiveMQ": Limits(268_435_460, 268_435_460, in_flight=10),
    "AWS IoT Core": Limits(
        131_072, 131_072, topic_bytes=256, topic_levels=8, client_id_bytes=128, subscriptions=8
    ),
    "Azure Event Grid": Limits(524_288, 65_536, client_id_bytes=128, in_flight=1_000),
}


def messages() -> dict[str, Message]:
    """The largest of each kind that go to a broker in the cloud, but for faces' pictures."""
    face = mint(Source(NAME, NAME), NOON, b"", "image/jpeg", {"box": "9" * 40, "landmarks": "9" * 200})
    sayings = StatusSequence(10)
    sayings.begin(NOON)
    state = Message(topic=f"faceferry/{NAME}/{NAME}/status", payload=b"offline", qos=1, retain=True)
    return {
        "face": encode_face(face),
        "receipt": encode_stored(NAME, [face.id] * MAX_IDS, {}),
        "state": sayings.last(state),
        "knock": Message(topic=KNOCK, payload=bytes(16), qos=1),
    }


@pytest.mark.parametrize("name", BROKERS)
def test_our_messages_fit(name: str) -> None:
    limits = BROKERS[name]
    for kind, message in messages().items():
        assert packet_bytes(message) <= limits.packet_bytes, kind
        assert len(message.topic) <= limits.topic_bytes
        assert message.topic.count("/") < limits.topic_levels
        if message.retain:
            assert packet_bytes(message) <= limits.retained_bytes
    assert len(f"forward-{NAME}-12345678") <= limits.client_id_bytes
    assert len(StoreSettings.model_fields["store_topics"].default) <= limits.subscriptions
    assert limits.in_flight >= 2, "one on the link, and one whose answer is on its way back"


@pytest.mark.parametrize("name", BROKERS)
def test_which_brokers_take_every_face_is_what_the_document_says(name: str) -> None:
    """Where they do not, FACEFERRY_MAX_CROP_BYTES is to be set: a larger one is set aside."""
    largest = DetectSettings.model_fields["max_crop_bytes"].default + MAX_PROPERTIES_BYTES
    row = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {name} |"))
    assert ("FACEFERRY_MAX_CROP_BYTES" in row) == (largest > BROKERS[name].packet_bytes)
    assert f"{BROKERS[name].packet_bytes:,}" in row
