"""A connection to a broker that comes back by itself.

aiomqtt brings paho-mqtt's protocol engine onto the event loop. Three things that it leaves to paho are
taken from there: acknowledgement by the application, the broker's limits out of its CONNACK, and the
reason codes of PUBACK. Three are done in their place: publications are read and written by `publish`, and
written to the socket at once (docs/decisions/0008), and a connection that ends is noticed while it is made.
"""

import asyncio
import contextlib
import functools
import math
import secrets
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

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
from services.common.broker import Broker as Broker  # noqa: PLC0414 - handed on: who links names a broker
from services.common.drops import Drops
from services.common.endings import TAKEN_OVER, Ear, NoBroker, why_lost, why_refused, words_of
from services.common.errors import FaceferryError, Refused
from services.common.greeting import CONNECT, add_password, why_no_broker
from services.common.message import Message
from services.common.metrics import MQTT_DROPPED, MQTT_LINK_UP
from services.common.news import News
from services.common.publish import PublishProperties, read_binary, read_properties

KEEP_ALIVE_S = 15
CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 1.0
STEADY_S = 3.0
"""A connection that lasted so long was a good one; the next try follows at once."""
TOO_SHORT_LIVED = 3
"""So many connections in a row that were none look as if another client had our id."""
OLD_WILL_S = 2 * KEEP_ALIVE_S
"""So long after an earlier process went without a word a broker may publish its will: it waits one and a half
times the keep-alive."""
MAX_IN_FLIGHT = 2_000
"""QoS 1 messages sent and not yet acknowledged by the broker, if the broker allows as many."""
MAX_WAITING = 512
"""QoS 0 messages that wait for the service; beyond it they are dropped and counted. QoS 1 messages are
bounded by the receive maximum instead."""

_MAX_PACKET_BYTES = 268_435_460  # the protocol's own limit

T = TypeVar("T")

log = structlog.get_logger()
_drops = Drops(MQTT_DROPPED, "mqtt.message_dropped")


Acknowledged = Callable[[str | None], None]
"""Is told that the broker has a message, or why it has refused it: `not_authorized`, `quota_exceeded`, ..."""


class LinkDown(FaceferryError):
    """There is no connection to the broker just now."""


class PacketTooLarge(FaceferryError):
    """The broker has said that it closes the connection on a packet of this size."""


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
        identity: `{service}-{device}`; the client id is this and a random end, the same for all connections
            of the link: a new one takes over the session of one that died without a word, and its will is
            published before the new one says anything, not when its keep-alive is over.
        subscriptions: topic filters, each at QoS 1 (the publisher's QoS decides).
        receive_maximum: QoS 1 messages that the broker may have unacknowledged here.
        will: published by the broker if this process goes without a word, and by the link when it closes.
            If it is retained, what was last published on its topic is said once more some time after each
            connection, for the will of an earlier process may have come behind it.
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
        self._client_id = _mint(identity)
        self._subscriptions = subscriptions
        self._receive_maximum = receive_maximum
        self._will = will
        self._on_up = on_up
        self._on_down = on_down
        self._tls = broker.tls_context()
        self._connection: aiomqtt.Client | None = None
        self._client: aiomqtt.Client | None = None  # the same, once its subscriptions are granted
        self._up = asyncio.Event()
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._on_acknowledged: dict[int, Acknowledged] = {}
        self._short_lived = 0
        self._standing: Message | None = None
        self._why_down = "no connection was tried yet"
        self._news = News()
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
        return self._connection is client

    def why_not_ready(self) -> str | None:
        """Return nothing while the link is up, else what is wrong (see `health.Check`)."""
        return None if self.is_up else f"no connection to {self._broker.address}: {self._why_down}"

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
        self._note_standing(message)
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

    def _note_standing(self, message: Message) -> None:
        if self._will is not None and message.retain and message.topic == self._will.topic:
            self._standing = message

    async def _keep_connected(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                await self._connect_and_stay(backoff)
            except (aiomqtt.MqttError, LinkDown, PacketTooLarge) as error:
                self._why_down = str(error)
                if self._news.is_news(self._why_down, time.monotonic()):
                    log.warning(
                        "mqtt.link_down", link=self.name, broker=self._broker.address, error=self._why_down
                    )
            await asyncio.sleep(backoff.next_s())

    async def _connect_and_stay(self, backoff: Backoff) -> None:
        """Return only by raising: `aiomqtt.MqttError` when there is no connection any more."""
        client = self._make_client()
        try:
            await client.connect()
            self._connection = client
            try:
                await self._subscribe(client)
                self._become_up(client)
                await self._stay(client, backoff)
            finally:
                await self._leave(client)
        finally:
            client.close()

    async def _stay(self, client: "_Client", backoff: Backoff) -> None:
        since_s = time.monotonic()
        if not await client.ends(OLD_WILL_S):
            self._say_standing_again()
            await client.ends()
        if time.monotonic() - since_s > STEADY_S:
            backoff.reset()
            self._short_lived = 0
        else:
            self._short_lived += 1
        if client.is_taken_over or self._short_lived >= TOO_SHORT_LIVED:
            # We have no other connection that is alive: somebody else has this id, as a copy of a running
            # machine has. Taking it back would go on for ever. Not every broker says that this is it.
            self._client_id = _mint(self._identity)
            self._short_lived = 0
        raise aiomqtt.MqttError(client.why)

    def _say_standing_again(self) -> None:
        if self._standing is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._standing)

    async def _leave(self, client: "_Client") -> None:
        was_up = self.is_up
        if client.is_alive and was_up and self._will is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._will)
        self._connection = self._client = None
        self._up.clear()
        self._on_acknowledged.clear()
        MQTT_LINK_UP.labels(self.name).set(0)
        if was_up and self._on_down is not None:
            self._on_down()
        await client.say_goodbye()

    def _become_up(self, client: aiomqtt.Client) -> None:
        _send_at_once(client)
        self._client = client
        self._up.set()
        self._news.over()
        MQTT_LINK_UP.labels(self.name).set(1)
        log.info("mqtt.link_up", link=self.name, broker=self._broker.address)
        if self._on_up is not None:
            self._on_up()

    def _make_client(self) -> "_Client":
        broker = self._broker
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._receive_maximum
        properties.SessionExpiryInterval = 0
        will = self._will
        client = _Client(
            broker.host,
            broker.port,
            username=broker.user,
            password=broker.password,
            identifier=self._client_id,
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

    async def _subscribe(self, client: "_Client") -> None:
        granted = await client.ask_for(self._subscriptions)
        for topic, code in zip(self._subscriptions, granted, strict=True):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise aiomqtt.MqttError(f"the broker refused the subscription to {topic}: {code}")

    def _limits_reader(self, then: Any) -> Any:
        """Return an `on_connect` that notes the broker's limits before aiomqtt's own runs."""

        def on_connect(
            paho: Any, data: object, flags: object, code: ReasonCode, properties: Properties | None = None
        ) -> None:
            limits = properties.json() if properties is not None else {}  # type: ignore[no-untyped-call]
            # A broker may ask for more signs of life than we give, not for fewer: its own are wanted too.
            paho._keepalive = min(KEEP_ALIVE_S, limits.get("ServerKeepAlive") or KEEP_ALIVE_S)
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
    """One connection, which knows why it ended, at whatever moment.

    aiomqtt looks at its end only once it is connected. It leaves a socket open after a failed or cancelled
    attempt to connect, and it connects in a thread, which goes on after a cancellation and has its socket
    later. For each packet it asks the event loop to say when the socket can be written, which takes seven
    system calls; but it nearly always can.

    Attributes:
        is_taken_over: whether it ended because another has connected with its id.
    """

    def __init__(
        self, *arguments: Any, username: str | None = None, password: str | None = None, **options: Any
    ) -> None:
        self._ear = Ear()
        super().__init__(*arguments, username=username, password=password, logger=self._ear, **options)
        self.is_taken_over = False
        self._thread = threading.get_ident()
        self._is_over = False
        self._awaited = "CONNACK"
        self._has_lone_password = password is not None and username is None
        paho: Any = self._client
        self._receive = paho._sock_recv
        paho._sock_send = functools.partial(self._send_first, paho._sock_send)
        paho._sock_recv = self._receive_first
        if password is not None and username is None:
            paho._packet_queue = functools.partial(_queue_with_password, paho._packet_queue, password)

    async def connect(self) -> None:
        """Connect, until the broker has let us in.

        Raises:
            aiomqtt.MqttError: why there is no connection.
        """
        try:
            # It blocks: for the name, for the connection and for TLS.
            await self._loop.run_in_executor(None, self._client_connect)
        except ssl.SSLError as error:
            raise aiomqtt.MqttError(f"TLS: {error}") from error
        except (OSError, UnicodeError) as error:  # a host's name may be none that can be asked for
            raise aiomqtt.MqttError(str(error) or type(error).__name__) from error
        await self._answer(self._connected)

    async def ask_for(self, topics: Sequence[str]) -> tuple[int, ...] | list[ReasonCode]:
        """Subscribe to topic filters; return what was granted to each.

        Raises:
            aiomqtt.MqttError: no answer came.
        """
        if not topics:
            self._awaited = ""
            return []
        options = SubscribeOptions(qos=1, noLocal=False)
        _, mid = self._client.subscribe([(topic, options) for topic in topics])
        granted: asyncio.Future[tuple[int, ...] | list[ReasonCode]] = self._loop.create_future()
        if mid is not None:  # else the connection is lost already
            self._pending_subscribes[mid] = granted
        codes = await self._answer(granted)
        self._awaited = ""
        return codes

    async def ends(self, timeout_s: float | None = None) -> bool:
        """Wait for the connection's end; say whether it came in time."""
        await asyncio.wait([self._disconnected], timeout=timeout_s)
        return not self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not ended."""
        return not self._disconnected.done()

    @property
    def why(self) -> str:
        """Why the connection has ended."""
        error = self._disconnected.exception()
        return str(error) if isinstance(error, aiomqtt.MqttError) else f"the connection broke: {error!r}"

    async def say_goodbye(self) -> None:
        """Tell the broker that the end is meant, so that it leaves the will alone."""
        if self.is_alive and self._client.disconnect() == 0:
            await self.ends(GOODBYE_TIMEOUT_S)

    def close(self) -> None:
        """Close the socket, now or as soon as there is one."""
        self._is_over = True
        if self._client.socket() is not None:
            self._client._sock_close()
        for future in (self._connected, self._disconnected):
            if future.done():
                future.exception()  # else asyncio complains that nobody looked

    async def _answer(self, answer: "asyncio.Future[T]") -> T:
        """Return the broker's answer, or raise why none comes."""
        either: list[asyncio.Future[Any]] = [answer, self._disconnected]
        await asyncio.wait(either, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise aiomqtt.MqttError(
            f"no {self._awaited} within {CONNECT_TIMEOUT_S:g} s" if self.is_alive else self.why
        )

    def _receive_first(self, size: int) -> bytes:
        """Receive in paho's place until the first byte has come, which tells whether this is a broker."""
        data: bytes = self._receive(size)
        if data:
            del self._client._sock_recv, self._client._sock_send
            if why_no_broker(data) is not None:
                with contextlib.suppress(OSError):
                    data += self._receive(31)
                raise NoBroker(why_no_broker(data))
        return data

    def _send_first(self, send: Callable[[bytes], int], data: bytes) -> int:
        """Send in paho's place until then: who closes on what is sent may have said why before."""
        try:
            return send(data)
        except BlockingIOError:
            raise
        except OSError:
            with contextlib.suppress(BlockingIOError):
                self._receive_first(1)
            raise

    def _on_connect(
        self,
        client: Any,
        userdata: Any,
        flags: Any,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if reason_code.is_failure and not self._connected.done():
            words = words_of(reason_code, properties)
            why = why_refused(reason_code.value, words, has_lone_password=self._has_lone_password)
            self._connected.set_exception(aiomqtt.MqttError(why))
        else:
            self._awaited = "SUBACK"
            super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: Any,  # noqa: ARG002 - paho passes these
        userdata: Any,  # noqa: ARG002
        flags: Any,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._disconnected.done():
            return
        if flags.is_disconnect_packet_from_server:
            self.is_taken_over = reason_code.value == TAKEN_OVER
            why = f"the broker ended it: {words_of(reason_code, properties)}"
        else:
            why = why_lost(reason_code.value, self._awaited, self._ear.problem, int(self._client._keepalive))
        self._disconnected.set_exception(aiomqtt.MqttError(why))

    async def _misc_loop(self) -> None:
        # Brokers wait one and a half times the keep-alive; to one of 1 s, aiomqtt's look each second is late.
        while self._client.loop_misc() == 0:  # noqa: ASYNC110 - paho looks at its clock, nothing signals
            await asyncio.sleep(min(1.0, self._client._keepalive / 4))

    def _on_socket_register_write(self, client: Any, userdata: object, sock: Any) -> None:
        is_connecting = threading.get_ident() != self._thread
        call = self._loop.call_soon_threadsafe if is_connecting else self._loop.call_soon
        call(self._write, client, userdata, sock)

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


def _mint(identity: str) -> str:
    return f"{identity}-{secrets.token_hex(4)}"


def _queue_with_password(queue: Any, password: str, command: int, packet: bytearray, *rest: Any) -> Any:
    """Queue a packet for paho, which sends a password only beside a user."""
    return queue(command, add_password(packet, password) if command == CONNECT else packet, *rest)


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


def _send_at_once(client: aiomqtt.Client) -> None:
    """Turn off Nagle's algorithm, which holds small messages for 40 ms against delayed acknowledgements."""
    connection = client._client.socket()
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
