"""What brokers retain: the states that go to the cloud, forward's own among them, and the latest pictures."""

from collections.abc import Callable, Sequence
from datetime import datetime

from services.common.erasure.selection import Selection
from services.common.errors import Refused
from services.common.mqtt import LinkDown
from services.common.wire import status
from services.common.wire.message import Message
from services.common.wire.status import StatusSequence
from services.common.wire.topics import Source, camera_topic, device_topic, parse_camera_topic

STATES = frozenset(state.encode() for state in (*status.STATES, ""))
"""The empty one deletes what a broker keeps: that camera is gone."""
MAX_CAMERAS = 1_000
"""The most whose states are kept for the next connection; of others they are refused."""


Publish = Callable[[Message, Callable[[str | None], None]], None]
"""Sends a message, and calls back when the broker has answered; see `Link.publish`."""


class OwnStatus:
    """The status of this device itself in the cloud: online, and, by the broker's will, offline.

    Args:
        device: its name.
        every_s: after how many seconds `online` is repeated; 0: never.

    Attributes:
        topic: the topic of the status.
    """

    def __init__(self, device: str, every_s: int) -> None:
        self.topic = device_topic(device, "forward/status")
        self._every_s = every_s
        self._sayings = StatusSequence(every_s)
        self._said_s = 0.0

    def will(self, now: datetime) -> Message:
        """Begin a connection; return what the broker publishes when it is over.

        Args:
            now: UTC.
        """
        self._sayings.begin(now)
        return self._sayings.last(Message(topic=self.topic, payload=b"offline", qos=1, retain=True))

    def online(self, now_s: float, *, is_first: bool) -> Message:
        """Return the status to publish now, in monotonic seconds; only a connection's first is retained."""
        self._said_s = now_s
        said = Message(topic=self.topic, payload=b"online", qos=1 if is_first else 0, retain=is_first)
        return self._sayings.first(said)

    def is_due(self, now_s: float) -> bool:
        """Say whether the status is to be repeated now."""
        return self._every_s > 0 and now_s - self._said_s >= self._every_s

    def mark(self, state: Message) -> Message:
        """Return a camera's state with its place in the order of all that this device publishes."""
        return self._sayings.next(state)


class StatusRelay:
    """Keeps the last state of each camera, and sends it to the cloud.

    One state of a camera at a time is in flight, until the broker has it: a camera that flaps must not fill
    a slow link. What a broker refuses is not sent again before it changes or there is a new connection.

    Args:
        publish: sends to the cloud.
        own_topic: forward's own status, which no camera may have.
        mark: adds to a state when it was published.
    """

    def __init__(
        self, publish: Publish, own_topic: str, mark: Callable[[Message], Message] = lambda state: state
    ) -> None:
        self._publish = publish
        self._mark = mark
        self._own_topic = own_topic
        self._states: dict[str, Message] = {}
        self._under_way: set[str] = set()

    def take(self, message: Message) -> None:
        """Take a camera's state.

        Raises:
            Refused: `bad_topic` or `bad_status`: it is none; `too_many_cameras`.
        """
        topic = message.topic
        parse_camera_topic(topic, "status")
        if topic == self._own_topic or message.payload not in STATES:
            raise Refused("bad_status", repr(message.payload[:32]))
        if topic not in self._states and not message.payload:
            return  # the cloud does not know it
        if topic not in self._states and len(self._states) >= MAX_CAMERAS:
            raise Refused("too_many_cameras", topic)
        because = status.reason_attributes(status.reason_in(message))
        state = Message(topic=topic, payload=message.payload, qos=1, retain=True, attributes=because)
        if self._states.get(topic) != state:
            self._states[topic] = state
            self._send(topic)

    def start_over(self) -> None:
        """Send every state over a new connection."""
        self._under_way.clear()
        for topic in self._states:
            self._send(topic)

    def _send(self, topic: str) -> None:
        if topic in self._under_way:
            return
        state = self._states[topic]
        try:
            self._publish(self._mark(state), lambda _refusal: self._arrived(state))
        except LinkDown:
            return  # the next connection starts over
        self._under_way.add(topic)

    def _arrived(self, state: Message) -> None:
        self._under_way.discard(state.topic)
        if self._states[state.topic] != state:
            self._send(state.topic)
        elif not state.payload:
            del self._states[state.topic]


MOST_CAMERAS = 1_024
"""The most that are known: their names come from the device's broker."""
_NONE = ("", None)
"""In the place of a face's id and visit: the broker keeps no picture."""


class LatestPictures:
    """Knows whose picture the local broker keeps of each camera, and removes those that are erased.

    Of a picture that an earlier process left there nothing is known: it is removed if it may be erased.

    Args:
        publish: sends to the local broker.
    """

    def __init__(self, publish: Callable[[Message], None]) -> None:
        self._publish = publish
        self._faces: dict[Source, tuple[str, str | None] | None] = {}
        self._erased: list[Selection] = []
        self._wanted: set[Source] = set()

    def knows(self, source: Source) -> None:
        """Note that there is a camera, of which a picture may be kept."""
        if source not in self._faces and len(self._faces) < MOST_CAMERAS:
            self._faces[source] = None
            self._want_back(source, self._erased)
            self.link_up()

    def picture_kept(self, source: Source, face_id: str, visit: str | None) -> None:
        """Note that a camera's picture is this face's from now on."""
        if source in self._faces or len(self._faces) < MOST_CAMERAS:
            self._faces[source] = (face_id, visit)

    def erase(self, selection: Selection) -> None:
        """Remove pictures that may be of a selection, now or at the next connection."""
        self._erased.append(selection)
        for source in self._faces:
            self._want_back(source, [selection])
        self.link_up()

    def link_up(self) -> None:
        """Remove the pictures that could not be removed without a connection."""
        for source in sorted(self._wanted):
            try:
                self._publish(Message(topic=camera_topic(source, "latest"), qos=1, retain=True))
            except LinkDown:
                return
            self._wanted.discard(source)
            self._faces[source] = _NONE

    def _want_back(self, source: Source, selections: Sequence[Selection]) -> None:
        known = self._faces[source]
        if any(_may_take(each, source, known) for each in selections):
            self._wanted.add(source)


def _may_take(selection: Selection, source: Source, known: tuple[str, str | None] | None) -> bool:
    if known is not None:
        return selection.takes(source, *known)
    return selection.device in (None, source.device) and selection.camera in (None, source.camera)
