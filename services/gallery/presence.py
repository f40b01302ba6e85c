"""The state of each device and camera, and the reason for it in words. Pure: time is an argument."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from services.common.errors import Refused
from services.common.wire.message import Message
from services.common.wire.status import STATES, StatusOrder, every_s, reason_in
from services.common.wire.topics import Source, parse_camera_topic
from services.gallery.cameras import MOST_CAMERAS

_OF_CAMERA: Final[Mapping[str, str]] = {
    "broken": "What comes from it is no picture.",
    "busy": "Another program has it.",
    "changed": "Its pictures changed their size; it is being started again.",
    "ended": "The recording is over.",
    "exited": "Its program ended, or it was unplugged.",
    "lost": "The connection to its broker was lost.",
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
        state: the camera's, as `Presence.cameras` gives it.
        why: the reason that capture gave, or None; it is from the network, so only known ones are shown.
        device_state: the state of its device's link.
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
        state: the link's.
        is_silent: whether its messages stopped without a last will or an `offline`.
    """
    match state:
        case "online":
            return ""
        case "offline" if is_silent:
            return "It fell silent without signing off: its power, or its network. Its faces wait on it."
        case "offline":
            return "Its connection ended: it was stopped, or its network went. Its faces wait on it."
    return "Nothing was heard of it since the gallery was started."


FORWARD = "forward"
"""In place of a camera's name: the device's link to the cloud."""
MAX_SOURCES = 10_000
"""Bound on cameras and links in memory: names come from the network. More are refused."""
SILENT_TIMES = 2.5
"""A device counts as offline after so many of its own intervals without a message."""
SETTLED_S = 25.0
"""Seconds after which a live message counts as newer even if its time is older: a clock was set back."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A change: the new state of a camera, or of a device's link (`FORWARD`)."""

    source: Source
    state: str


@dataclass(frozen=True, slots=True)
class _Report:
    """The last status message of a camera or a link.

    Attributes:
        state: what it said.
        order: its place among others of the same sender; None from an older version.
        heard_s: when it came, seconds of a steady clock.
        every_s: how often the sender repeats it at least; None where it does not say.
        is_silent: whether no further message came in time.
        why: the reason that came with it, or None.
    """

    state: str
    order: StatusOrder | None
    heard_s: float
    every_s: float | None
    is_silent: bool = False
    why: str | None = None

    @property
    def shown(self) -> str:
        return "offline" if self.is_silent else self.state


@dataclass(slots=True)
class Presence:
    """The last state of each camera and device, over all brokers."""

    _reports: dict[Source, _Report] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def note(self, message: Message, now: datetime, now_s: float) -> StatusChange | None:
        """Take a status message; return the change that it made, or None.

        Args:
            message: as a broker delivered it.
            now: the time, UTC; a device's time after it counts as now.
            now_s: seconds of a steady clock.

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
        known = self._reports.get(source)
        if known is None:
            self._make_room(source)
        elif not _is_later(order, known, now_s, is_kept=message.retain):
            return None
        self._reports[source] = _Report(state, order, now_s, every_s(message), why=reason_in(message))
        return None if known is not None and known.shown == state else StatusChange(source, state)

    def lapse(self, now_s: float) -> list[StatusChange]:
        """Mark devices offline whose messages stopped; return the changes.

        Args:
            now_s: seconds of a steady clock.
        """
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
        """The state of each camera; `unknown` where its device is offline."""
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
        """The devices that sent any status."""
        return {source.device for source in self._reports}

    def _shown(self, source: Source) -> str:
        """Return the state of a camera."""
        report = self._reports.get(source)
        return "unknown" if report is None or self.device(source.device) == "offline" else report.shown

    def _make_room(self, source: Source) -> None:
        """Count a new name. Each device has its own bound: one that invents cameras takes no other's room."""
        is_camera = source.camera != FORWARD
        if len(self._reports) >= MAX_SOURCES or (is_camera and self._counts[source.device] >= MOST_CAMERAS):
            raise Refused("too_many_cameras", str(source))
        self._counts[source.device] += is_camera

    def _forget(self, source: Source) -> StatusChange | None:
        """Take an empty message, which deletes a retained one."""
        if self._reports.pop(source, None) is None:
            return None
        self._counts[source.device] -= source.camera != FORWARD
        if not self._counts[source.device]:
            del self._counts[source.device]
        return StatusChange(source, "unknown")


def _is_later(order: StatusOrder | None, known: _Report, now_s: float, *, is_kept: bool) -> bool:
    """Say whether a message is newer than the known one; `is_kept`: it was retained by the broker."""
    if known.order is None or (order is not None and order >= known.order):
        return True
    return not is_kept and now_s - known.heard_s > SETTLED_S
