"""The cameras' states on their way to the cloud, which hears of nothing else that cameras say."""

from collections.abc import Callable

from services.common.errors import Refused
from services.common.mqtt import LinkDown
from services.common.wire import status
from services.common.wire.message import Message
from services.common.wire.topics import parse_camera_topic

STATES = frozenset({b"online", b"stalled", b"offline", b""})
"""The last one, in the place of a state, deletes what a broker keeps: that camera is gone."""
MAX_CAMERAS = 1_000
"""Whose states are kept for the next connection."""


Publish = Callable[[Message, Callable[[str | None], None]], None]
"""Sends a message and says later that the broker has answered, or raises `LinkDown`; see `Link.publish`."""


class Relay:
    """Keeps the last state of each camera, and sends it on.

    One at a time is under way for a camera, until the broker has it: one that flaps must not fill a slow
    link. What a broker refuses is not sent again before it changes or there is a new connection.

    Args:
        publish: sends to the cloud.
        own_topic: forward's own status, which no camera may have.
        mark: says in a state when it was said.
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
            return  # nobody has heard of it
        if topic not in self._states and len(self._states) >= MAX_CAMERAS:
            raise Refused("too_many_cameras", topic)
        because = status.because(status.why(message))
        state = Message(topic=topic, payload=message.payload, qos=1, retain=True, attributes=because)
        if self._states.get(topic) != state:
            self._states[topic] = state
            self._send(topic)

    def start_over(self) -> None:
        """Send every state into a new connection."""
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
