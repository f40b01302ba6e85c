"""Topic names, and the names that may stand in them."""

import re
from typing import NamedTuple

from services.common.errors import Refused

NAME_PATTERN = "[a-z0-9][a-z0-9-]{0,62}"
ROOT = "faceferry"
BARE_IMAGES = "test_topic"
"""The topic of the homework that this project grew from: plain images without any properties."""
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
    """Return whether `text` is a valid name of a device or a camera."""
    return _NAME.fullmatch(text) is not None


def camera_topic(source: Source, kind: str) -> str:
    """Return a camera's topic of a kind: `frame`, `done`, `face`, `status`, ..."""
    return f"{ROOT}/{source.device}/{source.camera}/{kind}"


def device_topic(device: str, kind: str) -> str:
    """Return a device's topic of a kind: `taken`, `stored`, `forward/status`, ..."""
    return f"{ROOT}/{device}/{kind}"


def parse_camera_topic(topic: str, kind: str) -> Source:
    """Return the camera of a topic.

    Raises:
        Refused: `bad_topic`: it is not `faceferry/{device}/{camera}/{kind}` with valid names.
    """
    match topic.split("/"):
        case [root, device, camera, end] if (
            root == ROOT and end == kind and is_name(device) and is_name(camera)
        ):
            return Source(device, camera)
    raise Refused("bad_topic", topic[:200])


def levels_of(topic: str, kind: str) -> tuple[str, str] | None:
    """Return the device's and the camera's level of a camera's topic, valid names or not.

    None if the topic has another shape.
    """
    match topic.split("/"):
        case [root, device, camera, end] if root == ROOT and end == kind:
            return device, camera
    return None


def is_of_device(topic: str, device: str) -> bool:
    """Return whether a topic belongs to a device."""
    return topic.startswith(device_topic(device, ""))


def is_own(topic: str) -> bool:
    """Return whether a topic is one of Faceferry's own, on which properties are required."""
    return topic.startswith(f"{ROOT}/")
