"""A connection to a broker that comes back by itself.

aiomqtt brings paho-mqtt's protocol engine onto the event loop. Three things that it leaves to paho are
taken from there: acknowledgement by the application, the broker's limits out of its CONNACK, and the
reason codes of PUBACK. Two are done in their place: publications are read and written by `publish`, and
written to the socket at once (docs/decisions/0008).
"""

import asyncio
import contextlib
import logging
import math
import secrets
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiomqtt
import structlog
from paho.mqtt import _packet as paho_packets
from paho.mqtt.client import MQTTMessage
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from services.common.backoff import Backoff
from services.common.drops import Drops
from services.common.errors import FaceferryError, Refused, SetupError
from services.common.message import Message
from services.common.metrics import MQTT_DROPPED, MQTT_LINK_UP
from services.common.publish import PublishProperties, read_binary, read_properties
from services.common.settings import MQTT_PORTS, CloudSettings, DeviceSettings

KEEP_ALIVE_S = 15
CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 1.0
STEADY_S = 3.0
"""A connection that lasted so long was a good one; the next try follows at once."""
MAX_IN_FLIGHT = 2_000
"""QoS 1 messages sent and not yet acknowledged by the broker, if the broker allows as many."""
MAX_WAITING = 512
"""QoS 0 messages that wait for the service; beyond it they are dropped and counted. QoS 1 messages are
bounded by the receive maximum instead."""

_MAX_PACKET_BYTES = 268_435_460  # the protocol's own limit


log = structlog.get_logger()
_drops = Drops(MQTT_DROPPED, "mqtt.message_dropped")


Acknowledged = Callable[[str | None], None]
"""Is told that the broker has a message, or why it has refused it: `not_authorized`, `quota_exceeded`, ..."""


class LinkDown(FaceferryError):
    """There is no connection to the broker just now."""


class PacketTooLarge(FaceferryError):
    """The broker has said that it closes the connection on a packet of this size."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is and how to be let in.

    Attributes:
        url: `mqtt://[user@]host[:port]` or `mqtts://...`.
        password: for the URL's user.
        ca_file: who vouches for the broker; the system's authorities by default.
        cert_file: our certificate, for mutual TLS, and
        key_file: its key.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def local(cls, settings: DeviceSettings) -> Self:
        """Return the broker on this device."""
        secret = settings.local_mqtt_password
        return cls(settings.local_mqtt_url, secret.get_secret_value() if secret else None)

    @classmethod
    def cloud(cls, settings: CloudSettings) -> Self:
        """Return the broker in the cloud."""
        secret = settings.cloud_mqtt_password
        return cls(
            settings.cloud_mqtt_url,
            secret.get_secret_value() if secret else None,
            settings.cloud_ca_file,
            settings.cloud_cert_file,
            settings.cloud_key_file,
        )

    @property
    def address(self) -> str:
        """Host and port, for logs."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or MQTT_PORTS[parts.scheme]}"


class Delivery:
    """A message that has come in, and its acknowledgement, which is due once."""

    __slots__ = ("_client", "_link", "_packet_id", "message")

    def __init__(self, message: Message, link: "Link", client: aiomqtt.Client, packet_id: int) -> None:
        self.message = message
        self._link = link
        self._client = client
        self._packet_id = packet_id

    def acknowledge(self) -> None:
        """Tell the broker that it may send another; nothing more is promised by it.

        The acknowledgement belongs to the connection that delivered the message and is dropped with it: a
        restarted broker numbers from 1 again, and an old number would hit a new message.
        """
        if self.message.qos > 0 and self._link.is_on(self._client):
            self._client._client.ack(self._packet_id, self.message.qos)


class Link:
    """A connection to one broker that comes back by itself, subscribed anew each time.

    Use it as an async context manager, which keeps the connection for as long as it lasts and does not
    wait for the first one; iterate over it for deliveries.

    Args:
        name: which broker this is, for logs and metrics: `local` or `cloud`.
        broker: where it is.
        identity: `{service}-{device}`; the client id is this and a random end.
        subscriptions: topic filters, each at QoS 1 (the publisher's QoS decides).
        receive_maximum: QoS 1 messages that the broker may have unacknowledged here.
        will: published by the broker if this process goes without a word, and by the link when it closes.
        on_up: called after each connection, when the subscriptions are granted.
        on_down: called after each loss of the connection.

    Attributes:
        max_packet_bytes: the largest packet the connected broker takes.

    Raises:
        SetupError: certificate files that cannot be used.
    """

    def __init__(
        self,
        name: str,
        broker: Broker,
        *,
        identity: str,
        subscriptions: Sequence[str] = (),
        receive_maximum: int = 64,
        will: Message | None = None,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.max_packet_bytes = _MAX_PACKET_BYTES
        self._broker = broker
        self._identity = identity
        self._subscriptions = subscriptions
        self._receive_maximum = receive_maximum
        self._will = will
        self._on_up = on_up
        self._on_down = on_down
        self._tls = _tls_context(broker)
        self._client: aiomqtt.Client | None = None
        self._up = asyncio.Event()
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._on_acknowledged: dict[int, Acknowledged] = {}
        self._is_told_down = False
        MQTT_LINK_UP.labels(name).set(0)  # one that never comes up is down, not unknown

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._keeper = self._tasks.create_task(self._keep_connected(), name=f"mqtt.{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Return itself."""
        return self

    async def __anext__(self) -> Delivery:
        """Return the next message that came in, over however many connections."""
        return await self._deliveries.get()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection with all its subscriptions."""
        return self._up.is_set()

    def is_on(self, client: aiomqtt.Client) -> bool:
        """Say whether `client` is the present connection."""
        return self._client is client

    def why_not_ready(self) -> str | None:
        """Return nothing while the link is up, else what is wrong (see `health.Check`)."""
        return None if self.is_up else f"no connection to {self._broker.address}"

    async def wait_up(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    def publish(self, message: Message, on_acknowledged: Acknowledged | None = None) -> None:
        """Hand a message to the connection; it is on its way when this returns, no more.

        Args:
            message: what to publish.
            on_acknowledged: for QoS 1: called when the broker has answered, with the reason if it has refused
                the message; never after the connection is lost.

        Raises:
            LinkDown: there is no connection; nothing was sent.
            PacketTooLarge: the broker would close the connection; nothing was sent.
        """
        if self._client is None:
            raise LinkDown(self._broker.address)
        if _packet_bytes(message) > self.max_packet_bytes:
            raise PacketTooLarge(f"{len(message.payload)} bytes, {self.max_packet_bytes} allowed")
        info = self._client._client.publish(
            message.topic, message.payload, message.qos, message.retain, _to_properties(message)
        )
        if info.rc != 0:
            raise LinkDown(f"{self._broker.address}: {info.rc!r}")
        if on_acknowledged is not None and message.qos > 0:
            self._on_acknowledged[info.mid] = on_acknowledged

    async def _keep_connected(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                await self._connect_and_stay(backoff)
            except (aiomqtt.MqttError, OSError, LinkDown, PacketTooLarge) as error:
                if not self._is_told_down:
                    log.warning(
                        "mqtt.link_down", link=self.name, broker=self._broker.address, error=str(error)
                    )
                    self._is_told_down = True
            _raise_if_cancelled()
            await asyncio.sleep(backoff.next_s())

    async def _connect_and_stay(self, backoff: Backoff) -> None:
        """Return only by raising: `aiomqtt.MqttError` or `OSError` when there is no connection any more."""
        client = self._make_client()
        try:
            await client.__aenter__()
            try:
                await self._subscribe(client)
                _raise_if_cancelled()
                self._become_up(client)
                since_s = time.monotonic()
                await asyncio.wait([client._disconnected])
                if time.monotonic() - since_s > STEADY_S:
                    backoff.reset()
                raise aiomqtt.MqttError("disconnected") from client._disconnected.exception()
            finally:
                await self._leave(client)
        finally:
            client.close()

    async def _leave(self, client: aiomqtt.Client) -> None:
        was_up = self.is_up
        is_alive = not client._disconnected.done()
        if is_alive and was_up and self._will is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._will)
        self._client = None
        self._up.clear()
        self._on_acknowledged.clear()
        MQTT_LINK_UP.labels(self.name).set(0)
        if was_up and self._on_down is not None:
            self._on_down()
        client.timeout = GOODBYE_TIMEOUT_S
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)

    def _become_up(self, client: aiomqtt.Client) -> None:
        _send_at_once(client)
        self._client = client
        self._up.set()
        self._is_told_down = False
        MQTT_LINK_UP.labels(self.name).set(1)
        log.info("mqtt.link_up", link=self.name, broker=self._broker.address)
        if self._on_up is not None:
            self._on_up()

    def _make_client(self) -> "_Client":
        parts = urlsplit(self._broker.url)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._receive_maximum
        properties.SessionExpiryInterval = 0
        will = self._will
        client = _Client(
            parts.hostname or "",
            parts.port or MQTT_PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=self._broker.password,
            logger=logging.getLogger("aiomqtt"),
            identifier=f"{self._identity}-{secrets.token_hex(4)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain) if will else None,
            timeout=CONNECT_TIMEOUT_S,
            keepalive=KEEP_ALIVE_S,
            clean_start=True,
            properties=properties,
            tls_context=self._tls,
        )
        paho = client._client
        paho.manual_ack_set(True)
        paho.on_message = lambda _paho, _data, raw: self._receive(client, raw)
        paho.on_publish = lambda _paho, _data, mid, code, _properties: self._acknowledged(mid, code)
        paho.on_connect = self._limits_reader(paho.on_connect)
        return client

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        if not self._subscriptions:
            return
        options = SubscribeOptions(qos=1, noLocal=False)
        granted = await client.subscribe([(topic, options) for topic in self._subscriptions])
        for topic, code in zip(self._subscriptions, granted, strict=True):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise aiomqtt.MqttError(f"the broker refused the subscription to {topic}: {code}")

    def _limits_reader(self, then: Any) -> Any:
        """Return an `on_connect` that notes the broker's limits before aiomqtt's own runs."""

        def on_connect(
            paho: Any, data: object, flags: object, code: ReasonCode, properties: Properties | None = None
        ) -> None:
            limits = properties.json() if properties is not None else {}  # type: ignore[no-untyped-call]
            # paho's setter refuses once the socket is open, which is the first moment the limit is known.
            paho._max_inflight_messages = min(MAX_IN_FLIGHT, limits.get("ReceiveMaximum", MAX_IN_FLIGHT))
            self.max_packet_bytes = limits.get("MaximumPacketSize", _MAX_PACKET_BYTES)
            then(paho, data, flags, code, properties)

        return on_connect

    def _receive(self, client: aiomqtt.Client, raw: MQTTMessage) -> None:
        if raw.qos == 0 and self._deliveries.qsize() >= MAX_WAITING:
            _drops.count("queue_full", self.name)
            return
        try:
            message = _from_paho(raw)
        except Refused as error:
            _drops.count(error.reason, self.name, detail=error.detail)
            client._client.ack(raw.mid, raw.qos)
            return
        self._deliveries.put_nowait(Delivery(message, self, client, raw.mid))

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        then = self._on_acknowledged.pop(mid, None)
        if reason.is_failure:
            _drops.count("refused_by_broker", self.name, code=str(reason))
        if then is not None:
            then(_as_reason(str(reason)) if reason.is_failure else None)


class _Client(aiomqtt.Client):
    """A client that leaves no socket open, whenever it is given up, and writes without asking first.

    aiomqtt closes none after a failed or cancelled attempt to connect, and it connects in a thread, which
    goes on after a cancellation and has its socket later. For each packet it asks the event loop to say when
    the socket can be written, which takes seven system calls; but it nearly always can.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._thread = threading.get_ident()
        self._is_over = False

    def close(self) -> None:
        """Close the socket, now or as soon as there is one."""
        self._is_over = True
        if self._client.socket() is not None:
            self._client._sock_close()

    def _on_socket_register_write(self, client: Any, userdata: object, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._write, client, userdata, sock)
        else:  # while it connects
            super()._on_socket_register_write(client, userdata, sock)

    def _write(self, client: Any, userdata: object, sock: Any) -> None:
        if client.socket() is not sock:
            return
        try:
            client.loop_write()
        finally:
            # What is left, or what went wrong, is for aiomqtt's own callback, which ends a broken connection.
            if client.socket() is sock and client.want_write():
                super()._on_socket_register_write(client, userdata, sock)

    def _client_connect(self) -> None:
        super()._client_connect()
        self._loop.call_soon_threadsafe(lambda: self.close() if self._is_over else None)


def _to_properties(message: Message) -> Any:
    expiry_s = None if message.expiry_s is None else max(1, math.ceil(message.expiry_s))
    return PublishProperties(
        message.content_type, message.attributes, message.response_topic, message.correlation, expiry_s
    )


def _from_paho(raw: MQTTMessage) -> Message:
    try:
        topic = raw.topic
    except UnicodeDecodeError as error:
        raise Refused("bad_topic", "not UTF-8") from error
    properties: Any = raw.properties
    return Message(
        topic=topic,
        payload=bytes(raw.payload),
        qos=raw.qos,
        retain=raw.retain,
        content_type=properties.content_type,
        attributes=properties.attributes,
        response_topic=properties.response_topic,
        correlation=properties.correlation,
    )


def _decode_publish(
    header: int,
    packet: bytes | bytearray,
    protocol: object,  # noqa: ARG001 - we speak MQTT 5 alone
) -> paho_packets.PublishPacket:
    """Take a PUBLISH packet apart in the place of paho's own function; see `publish` for why."""
    qos = (header >> 1) & 3
    properties: Any
    try:
        topic, at = read_binary(packet, 0)
        properties, payload_at = read_properties(packet, at + 2 if qos else at)
    except ValueError as error:
        raise MalformedPacket(str(error)) from error
    return paho_packets.PublishPacket(
        dup=bool(header & 8),
        qos=qos,
        retain=bool(header & 1),
        topic=topic,
        mid=int.from_bytes(packet[at : at + 2]) if qos else 0,
        properties=properties,
        payload=bytes(memoryview(packet)[payload_at:]),
    )


paho_packets.decode_publish = _decode_publish


def _as_reason(name: str) -> str:
    """Return the name of an MQTT reason code as a metric's label."""
    return name.lower().replace(" ", "_")


def _packet_bytes(message: Message) -> int:
    """Return at least how large the packet will be."""
    attributes = sum(len(name) + len(value) + 5 for name, value in message.attributes)
    return len(message.payload) + len(message.topic) + attributes + 256


def _tls_context(broker: Broker) -> ssl.SSLContext | None:
    if urlsplit(broker.url).scheme != "mqtts":
        return None
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert_file is not None:
            context.load_cert_chain(broker.cert_file, broker.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"the certificate files for {broker.address} cannot be used: {error}") from error
    return context


def _send_at_once(client: aiomqtt.Client) -> None:
    """Turn off Nagle's algorithm, which holds small messages for 40 ms against delayed acknowledgements."""
    connection = client._client.socket()
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _raise_if_cancelled() -> None:
    """Raise a cancellation that was lost.

    `asyncio.wait_for` of Python 3.11, on which aiomqtt waits, forgets one that comes just as it ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
