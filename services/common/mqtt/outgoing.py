"""Sends messages as the present broker accepts them, and handles its acknowledgements."""

import asyncio
import contextlib
import time
from dataclasses import replace

from paho.mqtt.reasoncodes import ReasonCode

from services.common.errors import FaceferryError
from services.common.mqtt.connection import Connection
from services.common.mqtt.delivery import drops
from services.common.mqtt.endpoint import Endpoint
from services.common.mqtt.in_flight import Acknowledged, InFlight
from services.common.mqtt.limits import Limits
from services.common.mqtt.packets import as_reason, encode_qos0, packet_bytes, to_properties
from services.common.wire.message import Message


class LinkDown(FaceferryError):
    """There is no connection to the broker at the moment."""


class PacketTooLarge(FaceferryError):
    """The packet exceeds the broker's limit, as it says or as was learnt from lost connections."""


class Outgoing:
    """Sends messages within the limits of the present broker.

    Args:
        link: the link's name, for metrics.

    Attributes:
        will: the present connection's; see `Link`.
        limits: the present broker's.
        in_flight: messages that it has not acknowledged yet.
    """

    def __init__(self, link: str) -> None:
        self.will: Message | None = None
        self._standing: Message | None = None
        self.limits = Limits()
        self.in_flight = InFlight()
        self._link = link
        self._endpoint: Endpoint | None = None
        self._client: Connection | None = None

    def know(self, limits: Limits) -> None:
        """Note the limits in the CONNACK of a new connection."""
        self.limits = limits

    def begin(self, client: Connection, endpoint: Endpoint) -> None:
        """Use this connection, to this broker, from now on."""
        self._client, self._endpoint = client, endpoint
        client._client.on_publish = lambda _paho, _data, mid, code, _properties: self.acknowledged(mid, code)

    def end(self) -> None:
        """Send nothing more: the connection has ended, and no answer will come."""
        self._client = None
        self.in_flight.forget()

    @property
    def max_packet_bytes(self) -> int:
        """The largest packet that may be sent now, bytes."""
        announced = self.limits.max_packet_bytes
        learnt = (
            self._endpoint.packet_limit.most_bytes(time.monotonic()) if self._endpoint is not None else None
        )
        return announced if learnt is None else min(announced, learnt)

    def note(self, message: Message) -> None:
        """Remember a retained message on the will's topic, whether it is sent or not; see `say_again`."""
        if self.will is not None and message.retain and message.topic == self.will.topic:
            self._standing = message

    def say_again(self) -> None:
        """Publish the last message on the will's topic again: an earlier process's will may follow it."""
        if self._standing is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._standing, None)

    def publish(self, message: Message, then: Acknowledged | None) -> None:
        """Hand a message to the connection.

        Args:
            message: what to publish.
            then: see `Link.publish`.

        Raises:
            LinkDown: there is no connection; nothing was sent.
            PacketTooLarge: the packet exceeds the broker's limit; nothing was sent.
        """
        client = self._client
        if client is None:
            raise LinkDown("there is no connection")
        if (size_bytes := packet_bytes(message)) > self.max_packet_bytes:
            raise PacketTooLarge(f"{len(message.payload)} bytes, {self.max_packet_bytes} allowed")
        qos = min(message.qos, self.limits.max_qos)
        retain = message.retain and self.limits.has_retain
        if qos == 0:
            if not client.send(encode_qos0(replace(message, qos=0, retain=retain))):
                raise LinkDown("the connection is over")
            if message.qos > 0 and then is not None:
                self._take_for_acknowledged(client, then)
            return
        info = client._client.publish(message.topic, message.payload, qos, retain, to_properties(message))
        if info.rc != 0:
            raise LinkDown(repr(info.rc))
        self.in_flight.add(info.mid, len(message.payload), size_bytes, time.monotonic(), then)

    def acknowledged(self, mid: int, reason: ReasonCode) -> None:
        """Handle a PUBACK, or paho's report that a QoS 0 message was sent.

        Args:
            mid: the packet identifier.
            reason: the PUBACK's reason code.
        """
        published = self.in_flight.answered(mid)
        if reason.is_failure:
            drops.count("refused_by_broker", self._link, code=str(reason))
        if published is None or self._endpoint is None:
            return
        self._endpoint.fault = None
        if published.is_large:
            self._endpoint.path_mtu.sent()
        self._endpoint.packet_limit.passed(published.packet_bytes)
        if published.then is not None:
            published.then(None if reason.value == 0 else as_reason(str(reason)))

    def _take_for_acknowledged(self, client: Connection, then: Acknowledged) -> None:
        """Report a message as acknowledged that is not: the broker has no QoS 1."""

        def report() -> None:
            if self._client is client:
                then(None)

        asyncio.get_running_loop().call_soon(report)
