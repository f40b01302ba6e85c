"""Topics of bare images, and the device and camera that such a topic names.

A pattern is an MQTT topic filter (MQTT 5.0, section 4.7) in which `{device}` and `{camera}` may stand for a
whole level, as `+` does, and which may end in the camera's name: `cam/{camera}/faces`, `edge/+/snapshot`,
`faces=front`, `hall/faces=hall/front`.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import Refused
from services.common.wire.topics import BARE_IMAGES, NAME_PATTERN, RESERVED_CAMERAS, ROOT, Source

MAX_NAME = 63
_MOST_FILTER_BYTES = 65_000
"""MQTT allows 65,535, and the name of a share group may be prepended."""
_PLACES = ("{device}", "{camera}")
_GIVEN = re.compile(rf"(.+)=(?:({NAME_PATTERN})/)?({NAME_PATTERN})", re.ASCII)
_NOT_IN_NAMES = re.compile("[^a-z0-9]+")
_OUR_TOPICS = (f"{ROOT}/+/+/+", f"{ROOT}/+/detect/+/wanted", f"{ROOT}/+/taken", f"{ROOT}/+/stored")
"""Filters of all topics between services; see docs/protocol.md."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A topic filter, and how to name the source of its images.

    Attributes:
        levels: the filter's levels, with `{device}` and `{camera}` where a level names them.
        device: the name for all images; None: the topic's, or the caller's.
        camera: likewise.
    """

    levels: tuple[str, ...]
    device: str | None = None
    camera: str | None = None

    @property
    def filter(self) -> str:
        """The MQTT topic filter."""
        return "/".join("+" if level in _PLACES else level for level in self.levels)

    def source(self, topic: str) -> tuple[str | None, str | None]:
        """Return the device and the camera of a matching topic, each None where nothing names it."""
        named = dict(zip(self.levels, topic.split("/"), strict=False))
        device, camera = (to_name(named[place]) if place in named else None for place in _PLACES)
        return self.device or device, self.camera or camera


HOMEWORK = (Pattern((BARE_IMAGES,)),)
"""The default: only the topic of the homework that this project grew from."""


def parse(text: str) -> Pattern:
    """Parse a pattern.

    Raises:
        ValueError: it is no pattern, or its filter is not valid; the message is for users.
    """
    given = _GIVEN.fullmatch(text)
    body, device, camera = given.groups() if given is not None else (text, None, None)
    pattern = Pattern(tuple(body.split("/")), device, camera)
    for place in _PLACES:
        if pattern.levels.count(place) > 1:
            raise ValueError(f"{place} may stand once in a topic filter")
    if {"{", "}"} & set(pattern.filter):
        raise ValueError("in braces a topic filter has {device} or {camera}, each as a whole level")
    _check_filter(pattern.filter)
    return pattern


def find_source(patterns: Sequence[Pattern], topic: str, otherwise: Source) -> Source:
    """Return the source of a topic's images by the first matching pattern; `otherwise` fills the gaps."""
    for pattern in patterns:
        if is_match(pattern.filter, topic):
            device, camera = pattern.source(topic)
            return Source(device or otherwise.device, camera or otherwise.camera)
    return otherwise


def to_name(text: str) -> str | None:
    """Return any text as a valid name of a camera or a device, or None if no character of it can stay.

    Names have lower-case letters, digits and hyphens: `Haustür 2` becomes `haustur-2`.
    """
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    name = _NOT_IN_NAMES.sub("-", plain).strip("-")[:MAX_NAME].rstrip("-")
    return f"{name}-camera" if name in RESERVED_CAMERAS else name or None


def camera_of(topic: str) -> str:
    """Return a camera's name made from a whole topic.

    Raises:
        Refused: `bad_topic`: it has no character that may stand in a name.
    """
    if (name := to_name(topic)) is None:
        raise Refused("bad_topic", topic[:200])
    return name


def is_match(topic_filter: str, topic: str) -> bool:
    """Return whether a topic matches a filter."""
    levels, names = topic_filter.split("/"), topic.split("/")
    if levels[-1] == "#":
        levels.pop()
        names = names[: len(levels)]  # "faces/#" matches "faces" too
    return len(levels) == len(names) and all(
        level in ("+", name) for level, name in zip(levels, names, strict=True)
    )


def overlap(one: str, other: str) -> bool:
    """Return whether there is a topic that both filters match."""
    ours, theirs = one.split("/"), other.split("/")
    for mine, its in zip(ours, theirs, strict=False):
        if "#" in (mine, its):
            return True
        if mine != its and "+" not in (mine, its):
            return False
    rest = ours[len(theirs) :] or theirs[len(ours) :]
    return rest in ([], ["#"])


def check_apart(patterns: Sequence[Pattern]) -> None:
    """Check that no topic matches two patterns, and none of our own topics matches any.

    Raises:
        ValueError: one does; the message names the filters.
    """
    filters = [pattern.filter for pattern in patterns]
    for number, one in enumerate(filters):
        if any(overlap(one, ours) for ours in _OUR_TOPICS):
            raise ValueError(f"'{one}' matches topics of Faceferry's own")
        for other in filters[:number]:
            if overlap(one, other):
                raise ValueError(f"'{other}' and '{one}' match the same topics: an image could come twice")


def _check_filter(text: str) -> None:
    levels = text.split("/")
    if "#" in "".join(levels[:-1]) or any(len(level) > 1 and {"#", "+"} & set(level) for level in levels):
        raise ValueError(
            "in a topic filter '+' stands for a whole level, and '#' for all from there to the end"
        )
    if not text or not text.isprintable() or text.startswith("$") or len(text.encode()) > _MOST_FILTER_BYTES:
        raise ValueError("a topic filter starts with '$', is empty, too long, or no text")
