"""Which devices and cameras there are and what they do, in words too. Pure: time is an argument."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from services.common.errors import Refused
from services.common.wire.message import Message
from services.common.wire.status import STATES, Order, every_s, why
from services.common.wire.topics import Source, parse_camera_topic
from services.gallery.cameras import MOST_CAMERAS

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
_SEE_DEVICE = "On the device, “faceferry status” and the log of capture say more."
_UNKNOWN = "It did not say why."


def camera_reason(state: str, why: str | None, device_state: str) -> str:
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
            return f"{_OF_CAMERA.get(why or '', _UNKNOWN)} {_SEE_DEVICE}"
    if device_state == "offline":
        return "Its device cannot be heard."
    return "Nothing was heard of it yet."


def device_reason(state: str, *, is_silent: bool) -> str:
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
class StatusChange:
    """What one camera, or a device's forward, has last said of itself."""

    source: Source
    state: str


@dataclass(frozen=True, slots=True)
class _Report:
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
    order: Order | None
    heard_s: float
    every_s: float | None
    is_silent: bool = False
    why: str | None = None

    @property
    def shown(self) -> str:
        return "offline" if self.is_silent else self.state


@dataclass(slots=True)
class Presence:
    """The last state of each, by source, over all brokers."""

    _reports: dict[Source, _Report] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def note(self, message: Message, now: datetime, now_s: float) -> StatusChange | None:
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
        order = Order.of(message)
        if order is not None and order.since > now:
            order = Order(now, order.number)
        known = self._reports.get(source)
        if known is None:
            self._make_room(source)
        elif not _is_later(order, known, now_s, is_kept=message.retain):
            return None
        self._reports[source] = _Report(state, order, now_s, every_s(message), why=why(message))
        return None if known is not None and known.shown == state else StatusChange(source, state)

    def lapse(self, now_s: float) -> list[StatusChange]:
        """Take those for offline that have not said anything for too long; return what changed by it."""
        gone = [
            (source, report)
            for source, report in self._reports.items()
            if source.camera == FORWARD
            and report.shown == "online"
            and report.every_s is not None
            and now_s - report.heard_s > SILENT_TIMES * report.every_s
        ]
        for source, report in gone:
            self._reports[source] = replace(report, is_silent=True)
        return [StatusChange(source, "offline") for source, _ in gone]

    @property
    def cameras(self) -> Mapping[Source, str]:
        """The state of each camera: one that its device cannot speak for is `unknown`."""
        return {source: self._shown(source) for source in self._reports if source.camera != FORWARD}

    def device(self, device: str) -> str:
        """Return the state of a device's link to the cloud; `unknown` if nothing was heard of it."""
        report = self._reports.get(Source(device, FORWARD))
        return "unknown" if report is None else report.shown

    def reason(self, source: Source) -> str:
        """Return why a camera, or a device's link, is not online, in words; `""` where it is."""
        report = self._reports.get(source)
        if source.camera == FORWARD:
            is_silent = report is not None and report.is_silent
            return device_reason(self.device(source.device), is_silent=is_silent)
        return camera_reason(self._shown(source), report.why if report else None, self.device(source.device))

    @property
    def devices(self) -> set[str]:
        """The devices that anything was heard of."""
        return {source.device for source in self._reports}

    def _shown(self, source: Source) -> str:
        """Return what is shown of a camera."""
        report = self._reports.get(source)
        return "unknown" if report is None or self.device(source.device) == "offline" else report.shown

    def _make_room(self, source: Source) -> None:
        """Take a new name of a device, its link's always: one that invents cameras takes no other's room."""
        is_camera = source.camera != FORWARD
        if len(self._reports) >= MAX_SOURCES or (is_camera and self._counts[source.device] >= MOST_CAMERAS):
            raise Refused("too_many_cameras", str(source))
        self._counts[source.device] += is_camera

    def _forget(self, source: Source) -> StatusChange | None:
        """Take a retained message's deletion, which is an empty one."""
        if self._reports.pop(source, None) is None:
            return None
        self._counts[source.device] -= source.camera != FORWARD
        if not self._counts[source.device]:
            del self._counts[source.device]
        return StatusChange(source, "unknown")


def _is_later(order: Order | None, known: _Report, now_s: float, *, is_kept: bool) -> bool:
    """Say whether a word is to be believed rather than what is known."""
    if known.order is None or (order is not None and order >= known.order):
        return True
    return not is_kept and now_s - known.heard_s > SETTLED_S
