"""Topic names, and the names that may stand in them."""

import re
from typing import NamedTuple

from services.common.errors import Refused

NAME_PATTERN = "[a-z0-9][a-z0-9-]{0,62}"
ROOT = "faceferry"
BARE_IMAGES = "test_topic"
"""The original homework's topic: plain images without any properties."""
RESERVED_CAMERAS = frozenset({"forward", "detect"})
"""`faceferry/{device}/forward/status` and `faceferry/{device}/detect/...` are services' own, not cameras'."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)


class Source(NamedTuple):
    """A camera of a device; as text `{device}/{camera}`."""

    device: str
    camera: str

    def __str__(self) -> str:
        return f"{self.device}/{self.camera}"


def is_name(text: str) -> bool:
    """Say whether `text` may name a device or a camera."""
    return _NAME.fullmatch(text) is not None


def camera_topic(source: Source, kind: str) -> str:
    """Return the topic of one of a camera's streams: `frame`, `done`, `face` or `status`."""
    return f"{ROOT}/{source.device}/{source.camera}/{kind}"


def device_topic(device: str, kind: str) -> str:
    """Return the topic of one of a device's streams: `taken`, `stored` or `forward/status`."""
    return f"{ROOT}/{device}/{kind}"


def parse_camera_topic(topic: str, kind: str) -> Source:
    """Return whose stream a topic is.

    Raises:
        Refused: `bad_topic`, for anything but `faceferry/{device}/{camera}/{kind}` with proper names.
    """
    match topic.split("/"):
        case [root, device, camera, end] if (
            root == ROOT and end == kind and is_name(device) and is_name(camera)
        ):
            return Source(device, camera)
    raise Refused("bad_topic", topic[:200])


def levels_of(topic: str, kind: str) -> tuple[str, str] | None:
    """Return what stands where a camera's stream has its device and its camera, be it a proper name or not.

    Nothing where the topic has another shape. Whoever publishes on such a topic hears what is said beside it.
    """
    match topic.split("/"):
        case [root, device, camera, end] if root == ROOT and end == kind:
            return device, camera
    return None


def is_of_device(topic: str, device: str) -> bool:
    """Say whether a topic is one of a device's."""
    return topic.startswith(device_topic(device, ""))


def is_own(topic: str) -> bool:
    """Say whether a topic has the shape of ours, on which properties are required."""
    return topic.startswith(f"{ROOT}/")
