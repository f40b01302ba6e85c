"""A camera that is an MQTT topic: its address, and the pictures in its messages."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from services.capture.stream.picture import JpegPicture
from services.common.errors import Refused, SetupError
from services.common.runtime.addresses import mqtt_url
from services.common.wire import bare_images, times
from services.common.wire.message import Message
from services.common.wire.topics import ROOT

MOST_TOPIC_BYTES = 65_535


@dataclass(frozen=True, slots=True)
class TopicAddress:
    """A topic and its broker.

    Attributes:
        broker: the broker's address, without a password; empty: the broker on this device.
        password: of the user in that address; None: none is sent.
        topic: a topic filter; `+` and `#` are as in MQTT.
    """

    broker: str
    password: str | None
    topic: str

    def __repr__(self) -> str:
        return f"TopicAddress({self.topic!r})"


def parse_topic(camera: str, url: str) -> TopicAddress:
    """Read `mqtt://user:password@host:port/topic`, or `mqtt:///topic` of the broker on this device.

    Args:
        camera: its name, for messages.
        url: its address, without our options.

    Raises:
        SetupError: it cannot be understood; says why, without repeating the address.
    """
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    topic = unquote(path, errors="surrogateescape")
    if problem := _problem(topic) or (None if authority else _problem_here(scheme, topic)):
        raise SetupError(f"camera {camera!r}: {problem}")
    if not authority:
        return TopicAddress("", None, topic)
    login, at, host = authority.rpartition("@")
    user, _, password = login.partition(":")
    broker = f"{scheme}://{user}{at}{host}"
    try:
        urlsplit(mqtt_url(broker))
    except ValueError:  # which may say what stands in the address
        raise SetupError(
            f"camera {camera!r}: an address such as {scheme}://user:password@host/topic is wanted; in a "
            "password, what means something in an address is written as its number, '/' as %2F"
        ) from None
    return TopicAddress(broker, unquote(password) or None, topic)


def to_picture(message: Message) -> JpegPicture:
    """Return the picture that a message is: a JPEG, or one in base64, without what follows its end.

    Raises:
        Refused: `retained`: nobody can tell how old it is; `png`: capture has no decoder for one; others, see
            `bare_images.read`.
    """
    if message.retain:
        raise Refused("retained", "the broker has kept it from before")
    image, info = bare_images.read(message.payload)
    if info.content_type != "image/jpeg":
        raise Refused("png", "a JPEG is wanted")
    return JpegPicture(image, _taken_unix_s(message))


def _problem(topic: str) -> str | None:
    """Return why a topic filter cannot be subscribed to (MQTT 5.0, section 4.7), or None."""
    levels = topic.split("/")
    if not topic or not topic.isprintable() or len(topic.encode(errors="replace")) > MOST_TOPIC_BYTES:
        return "a topic is wanted behind the broker's name, as in mqtt://host/frigate/front/person/snapshot"
    if "#" in topic and (levels[-1] != "#" or topic.count("#") > 1):
        return "'#' stands for the rest of a topic, and nothing follows it"
    if any("+" in level and level != "+" for level in levels):
        return "'+' stands for one whole level of a topic"
    return None


def _problem_here(scheme: str, topic: str) -> str | None:
    """Return why a topic of this device's own broker cannot be a camera, or None."""
    if scheme != "mqtt":
        return "the broker on this device is mqtt:///topic, however it is reached"
    if topic.partition("/")[0] in (ROOT, "+", "#"):
        return f"topics under {ROOT}/ carry our own messages, our own frames among them"
    return None


def _taken_unix_s(message: Message) -> float | None:
    """Return when a message's picture was taken, by its CloudEvents attribute `time`, or None."""
    told: dict[str, Any] = dict(message.attributes)
    try:
        return times.parse_rfc3339(told.get("time", "")).timestamp()
    except Refused:
        return None
