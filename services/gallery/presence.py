"""Which devices and cameras there are and what they do, from the retained status topics."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.errors import Refused
from services.common.topics import Source, parse_camera_topic
from services.gallery.roll import MOST_CAMERAS

STATES = frozenset({"online", "offline", "stalled"})
FORWARD = "forward"
"""In the place of a camera's name: the device's link to the cloud."""
MAX_SOURCES = 10_000
"""Names come from the network: beyond this no new one is taken."""


@dataclass(frozen=True, slots=True)
class Status:
    """What one camera, or a device's forward, has last said of itself."""

    source: Source
    state: str


@dataclass(slots=True)
class Presence:
    """The last state of each, by source."""

    _states: dict[Source, str] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def note(self, topic: str, payload: bytes) -> Status | None:
        """Take a status message; return what changed by it, if anything.

        Raises:
            Refused: `bad_topic`, `bad_status`, or `too_many_cameras`.
        """
        source = parse_camera_topic(topic, "status")
        if not payload:
            return self._forget(source)
        state = payload[:32].decode("ascii", "replace")
        if state not in STATES:
            raise Refused("bad_status", f"{payload[:32]!r} of {source}")
        if source not in self._states:
            self._make_room(source)
        if self._states.get(source) == state:
            return None
        self._states[source] = state
        return Status(source, state)

    @property
    def cameras(self) -> Mapping[Source, str]:
        """The state of each camera: one that its device cannot speak for is `unknown`."""
        return {
            source: state if self.device(source.device) != "offline" else "unknown"
            for source, state in self._states.items()
            if source.camera != FORWARD
        }

    def device(self, device: str) -> str:
        """Return the state of a device's link to the cloud; `unknown` if nothing was heard of it."""
        return self._states.get(Source(device, FORWARD), "unknown")

    @property
    def devices(self) -> set[str]:
        """The devices that anything was heard of."""
        return {source.device for source in self._states}

    def _make_room(self, source: Source) -> None:
        """Take a new name of a device, its link's always: one that invents cameras takes no other's room."""
        is_camera = source.camera != FORWARD
        if len(self._states) >= MAX_SOURCES or (is_camera and self._counts[source.device] >= MOST_CAMERAS):
            raise Refused("too_many_cameras", str(source))
        self._counts[source.device] += is_camera

    def _forget(self, source: Source) -> Status | None:
        """Take a retained message's deletion, which is an empty one."""
        if self._states.pop(source, None) is None:
            return None
        self._counts[source.device] -= source.camera != FORWARD
        if not self._counts[source.device]:
            del self._counts[source.device]
        return Status(source, "unknown")
