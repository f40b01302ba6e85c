"""A camera's connection to the broker on this device."""

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import structlog

from services.capture.metrics import Tally
from services.common.errors import Refused
from services.common.mqtt import Broker, Link, LinkDown
from services.common.runtime.metrics import MQTT_DROPPED, Drops
from services.common.wire import status
from services.common.wire.frames import Done, decode_done
from services.common.wire.message import Message
from services.common.wire.topics import Source, camera_topic

PACKET_MARGIN_BYTES = 1024
"""How much a frame's topic and properties take in its packet, at most."""

log = structlog.get_logger()
_drops = Drops(MQTT_DROPPED, "capture.answer_refused")


class Outlet:
    """A camera's own connection to the broker: frames and the camera's state go out, answers come in.

    Each camera has its own because MQTT has one last will for each connection. To be entered before use.

    Args:
        broker: the broker on this device.
        source: which camera.
        tally: counts what is published and answered, and has the camera's state.
    """

    def __init__(self, broker: Broker, source: Source, tally: Tally) -> None:
        self.source = source
        self._tally = tally
        self._state = "offline"
        self._why: str | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._link = Link(
            f"local/{source.camera}",
            broker,
            identity=f"capture-{source.device}-{source.camera}",
            subscriptions=[camera_topic(source, "done")],
            will=self._status("offline", "stopped"),
            on_up=self._up,
            on_down=self._down,
        )

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.__aexit__(kind, error, trace)

    def on_change(self, then: Callable[[], None]) -> None:
        """Have `then` called each time that the connection is made or lost."""
        self._on_change = then

    @property
    def state(self) -> str:
        """The camera's state: `online`, `stalled` or `offline`."""
        return self._state

    @property
    def is_up(self) -> bool:
        """Whether there is a connection, so that frames can go out."""
        return self._link.is_up

    @property
    def max_frame_bytes(self) -> int:
        """The size of the largest JPEG that the broker takes, in bytes."""
        return self._link.max_packet_bytes - PACKET_MARGIN_BYTES

    def why_not_ready(self) -> str | None:
        """Return None while there is a connection, else why there is none."""
        return self._link.why_not_ready()

    def why_not_online(self) -> str | None:
        """Return None while the camera is online, else its state and, if known, the reason in a word."""
        if self._state == "online":
            return None
        return f"{self._state}: {self._why}" if self._why else self._state

    def publish(self, message: Message) -> None:
        """Send a frame.

        Raises:
            LinkDown: nothing was sent.
            PacketTooLarge: nothing was sent.
        """
        self._link.publish(message)
        self._tally.published.inc()

    def say(self, state: str, why: str | None = None) -> None:
        """Publish, retained, and log the camera's state, if it has changed; without a connection, later.

        Args:
            state: `online`, `stalled` or `offline`.
            why: the reason in a word, where it is not online.
        """
        if (state, why) == (self._state, self._why):
            return
        is_other = state != self._state
        self._state, self._why = state, why
        if is_other:  # the reason alone may change at each of many tries
            self._tally.state.state(state)
            tell = log.info if state == "online" else log.warning
            tell(f"capture.camera_{state}", camera=self.source.camera, **({"why": why} if why else {}))
        self._say_state()

    async def answers(self) -> AsyncIterator[Done]:
        """Yield detect's answers for ever, over however many connections. What is no answer is counted."""
        async for delivery in self._link:
            delivery.acknowledge()
            try:
                done = decode_done(delivery.message)
            except Refused as error:
                _drops.count(error.reason, f"local/{self.source.camera}", detail=error.detail)
                continue
            self._tally.answered.inc()
            yield done

    def _up(self) -> None:
        self._say_state()
        self._on_change()

    def _down(self) -> None:
        self._on_change()

    def _say_state(self) -> None:
        if self._link.is_up:
            try:
                self._link.publish(self._status(self._state, self._why))
            except LinkDown:
                return  # published when the link is back

    def _status(self, state: str, why: str | None) -> Message:
        topic, because = camera_topic(self.source, "status"), status.reason_attributes(why)
        return Message(topic=topic, payload=state.encode(), qos=1, retain=True, attributes=because)
