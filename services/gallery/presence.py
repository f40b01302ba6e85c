"""Which devices and cameras there are and what they do, in words too. Pure: time is an argument."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from services.common.errors import Refused
from services.common.wire.message import Message
from services.common.wire.status import STATES, StatusOrder, every_s, reason_in
from services.common.wire.topics import Source, parse_camera_topic
from services.gallery.roll import MOST_CAMERAS

_OF_CAMERA: Final[Mapping[str, str]] = {
    "broken": "What comes from it is no picture.",
    "changed": "Its pictures changed their size; it is being started again.",
    "ended": "The recording is over.",
    "exited": "Its program ended, or it was unplugged.",
    "silent": "It was opened, and gave no picture in time.",
    "stalled": "Its pictures stopped.",
    "stopped": "capture is not running.",
    "unavailable": "It cannot be opened.",
}
_LOOK = "On the device, “faceferry status” and the log of capture say more."
_UNKNOWN = "It did not say why."


def of_camera(state: str, why: str | None, device_state: str) -> str:
    """Return why a camera is not online; `""` where it is.

    Args:
        state: what is shown of it.
        why: the word that it said, if it did; from the network, so only words that are known are shown.
        device_state: what is shown of its device's link.
    """
    match state:
        case "online":
            return ""
        case "offline" | "stalled":
            return f"{_OF_CAMERA.get(why or '', _UNKNOWN)} {_LOOK}"
    if device_state == "offline":
        return "Its device cannot be heard."
    return "Nothing was heard of it yet."


def of_device(state: str, *, is_silent: bool) -> str:
    """Return why a device's link to the cloud is not up; `""` where it is.

    Args:
        state: what is shown of it.
        is_silent: whether it has fallen silent, and nobody has said that it has gone.
    """
    match state:
        case "online":
            return ""
        case "offline" if is_silent:
            return "It fell silent without a goodbye: its power, or its network. Its faces wait on it."
        case "offline":
            return "Its connection ended: it was stopped, or its network went. Its faces wait on it."
    return "Nothing was heard of it since the gallery was started."


FORWARD = "forward"
"""In the place of a camera's name: the device's link to the cloud."""
MAX_SOURCES = 10_000
"""Names come from the network: beyond this no new one is taken."""
SILENT_TIMES = 2.5
"""A device that says every so often that it is there, and has not for so many times as long, is not."""
SETTLED_S = 25.0
"""What is said live, so long after a word that seems to be later, is later: a clock was set back."""


@dataclass(frozen=True, slots=True)
class Status:
    """What one camera, or a device's forward, has last said of itself."""

    source: Source
    state: str


@dataclass(frozen=True, slots=True)
class _Word:
    """What was last said.

    Attributes:
        state: that.
        order: when, by whoever said it; nothing of an older version.
        heard_s: when it was heard last.
        every_s: how often it is said at least; nothing where that is not promised.
        is_over: nothing was heard for too long.
        why: the reason that was said with it.
    """

    state: str
    order: StatusOrder | None
    heard_s: float
    every_s: float | None
    is_over: bool = False
    why: str | None = None

    @property
    def shown(self) -> str:
        return "offline" if self.is_over else self.state


@dataclass(slots=True)
class Presence:
    """The last state of each, by source, over all brokers."""

    _words: dict[Source, _Word] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def note(self, message: Message, now: datetime, now_s: float) -> Status | None:
        """Take a status message; return what changed by it, if anything.

        Args:
            message: as a broker delivered it.
            now: the time of day, which no device is ahead of.
            now_s: the time, steady.

        Raises:
            Refused: `bad_topic`, `bad_status`, or `too_many_cameras`.
        """
        source = parse_camera_topic(message.topic, "status")
        if not message.payload:
            return self._forget(source)
        state = message.payload[:32].decode("ascii", "replace")
        if state not in STATES:
            raise Refused("bad_status", f"{message.payload[:32]!r} of {source}")
        order = StatusOrder.of(message)
        if order is not None and order.since > now:
            order = StatusOrder(now, order.number)
        known = self._words.get(source)
        if known is None:
            self._make_room(source)
        elif not _is_later(order, known, now_s, is_kept=message.retain):
            return None
        self._words[source] = _Word(state, order, now_s, every_s(message), why=reason_in(message))
        return None if known is not None and known.shown == state else Status(source, state)

    def lapse(self, now_s: float) -> list[Status]:
        """Take those for offline that have not said anything for too long; return what changed by it."""
        gone = [
            (source, word)
            for source, word in self._words.items()
            if source.camera == FORWARD
            and word.shown == "online"
            and word.every_s is not None
            and now_s - word.heard_s > SILENT_TIMES * word.every_s
        ]
        for source, word in gone:
            self._words[source] = replace(word, is_over=True)
        return [Status(source, "offline") for source, _ in gone]

    @property
    def cameras(self) -> Mapping[Source, str]:
        """The state of each camera: one that its device cannot speak for is `unknown`."""
        return {source: self._shown(source) for source in self._words if source.camera != FORWARD}

    def device(self, device: str) -> str:
        """Return the state of a device's link to the cloud; `unknown` if nothing was heard of it."""
        word = self._words.get(Source(device, FORWARD))
        return "unknown" if word is None else word.shown

    def reason(self, source: Source) -> str:
        """Return why a camera, or a device's link, is not online, in words; `""` where it is."""
        word = self._words.get(source)
        if source.camera == FORWARD:
            is_silent = word is not None and word.is_over
            return of_device(self.device(source.device), is_silent=is_silent)
        return of_camera(self._shown(source), word.why if word else None, self.device(source.device))

    @property
    def devices(self) -> set[str]:
        """The devices that anything was heard of."""
        return {source.device for source in self._words}

    def _shown(self, source: Source) -> str:
        """Return what is shown of a camera."""
        word = self._words.get(source)
        return "unknown" if word is None or self.device(source.device) == "offline" else word.shown

    def _make_room(self, source: Source) -> None:
        """Take a new name of a device, its link's always: one that invents cameras takes no other's room."""
        is_camera = source.camera != FORWARD
        if len(self._words) >= MAX_SOURCES or (is_camera and self._counts[source.device] >= MOST_CAMERAS):
            raise Refused("too_many_cameras", str(source))
        self._counts[source.device] += is_camera

    def _forget(self, source: Source) -> Status | None:
        """Take a retained message's deletion, which is an empty one."""
        if self._words.pop(source, None) is None:
            return None
        self._counts[source.device] -= source.camera != FORWARD
        if not self._counts[source.device]:
            del self._counts[source.device]
        return Status(source, "unknown")


def _is_later(order: StatusOrder | None, known: _Word, now_s: float, *, is_kept: bool) -> bool:
    """Say whether a word is to be believed rather than what is known."""
    if known.order is None or (order is not None and order >= known.order):
        return True
    return not is_kept and now_s - known.heard_s > SETTLED_S
