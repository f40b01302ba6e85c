"""A connection to a broker that comes back by itself.

aiomqtt brings paho-mqtt's protocol engine onto the event loop. Three things that it leaves to paho are
taken from there: acknowledgement by the application, the broker's limits out of its CONNACK, and the
reason codes of PUBACK. Others are done in their place: see `connection` and `packets`.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from services.common.backoff import Backoff
from services.common.broker import Broker
from services.common.credentials import Credentials
from services.common.drops import Drops
from services.common.errors import FaceferryError, Refused
from services.common.message import Message
from services.common.metrics import MQTT_DROPPED, MQTT_LINK_UP
from services.common.mqtt.connection import Connection
from services.common.mqtt.dialling import Way
from services.common.mqtt.packets import Publication, as_reason, packet_bytes, to_properties
from services.common.mqtt.path import LARGE_BYTES, Path
from services.common.mqtt.patience import Patience
from services.common.mqtt.pulse import SILENT_S, Pulse
from services.common.news import News

KEEP_ALIVE_S = 15
WATCH_EVERY_S = 0.5
LOOKED_AT_S = 5.0
"""For so long after somebody has asked whether we are ready the broker is asked whether it is there."""
STEADY_S = 3.0
"""A connection that lasted so long was a good one; the next try follows at once."""
TOO_SHORT_LIVED = 3
"""So many connections in a row that were none look as if another client had our id."""
OLD_WILL_S = 2 * KEEP_ALIVE_S
"""So long after an earlier process went without a word a broker may publish its will: it waits one and a half
times the keep-alive."""
MAX_IN_FLIGHT = 2_000
"""QoS 1 messages sent and not yet acknowledged by the broker, if the broker allows as many."""
PACKET_BYTES = 2_048
"""What a packet that waits takes of memory besides itself."""
Wants = Callable[[str, int], bool]
"""Says of a topic, and of a message's size in bytes, whether it is wanted."""
MAX_WAITING = 512
"""QoS 0 messages that wait for the service; beyond it they are dropped and counted. QoS 1 messages are
bounded by the receive maximum instead."""

_MAX_PACKET_BYTES = 268_435_460  # the protocol's own limit

log = structlog.get_logger()
_drops = Drops(MQTT_DROPPED, "mqtt.message_dropped")


Acknowledged = Callable[[str | None], None]
"""Is told that the broker has a message, or why it has refused it: `not_authorized`, `quota_exceeded`, ...;
or `UNHEARD`."""
UNHEARD = "no_matching_subscribers"
"""The broker has taken a message, and dropped it, for nobody has subscribed to it just now."""


class LinkDown(FaceferryError):
    """There is no connection to the broker just now."""


class PacketTooLarge(FaceferryError):
    """The broker has said that it closes the connection on a packet of this size."""


class Delivery:
    """A message that has come in, and its acknowledgement, which is due once.

    Attributes:
        topic: the message's.
        size_bytes: what it takes, taken apart or not.
    """

    __slots__ = ("_client", "_link", "_message", "_packet_id", "_publication", "_qos", "size_bytes", "topic")

    def __init__(self, publication: Publication, topic: str, link: "Link", client: Connection) -> None:
        self.topic = topic
        self.size_bytes = len(publication.packet) + PACKET_BYTES
        self._qos = publication.qos
        self._packet_id = publication.packet_id
        self._publication: Publication | None = publication
        self._message: Message | None = None
        self._link = link
        self._client = client

    @property
    def message(self) -> Message:
        """The message, which is taken apart when it is asked for first.

        Raises:
            Refused: `malformed`; only of a link with `wants`, others hand over no such message.
        """
        try:
            return self.take_apart()
        except ValueError as error:
            raise Refused("malformed", str(error)) from error

    def take_apart(self) -> Message:
        """Return the message.

        Raises:
            ValueError: it is malformed.
        """
        if self._message is None:
            assert self._publication is not None
            self._message = self._publication.message()
            self._publication = None  # the picture is in memory once
        return self._message

    def acknowledge(self) -> None:
        """Tell the broker that it may send another; nothing more is promised by it.

        The acknowledgement belongs to the connection that delivered the message and is dropped with it: a
        restarted broker numbers from 1 again, and an old number would hit a new message.
        """
        if self._qos > 0 and self._link.is_on(self._client):
            self._client.reader.acknowledge(self._packet_id)


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
        wants: for whoever may be sent more than can be read: is asked about each message before it is taken
            apart. What is not wanted is acknowledged and forgotten; the rest is taken apart when it is looked
            at. Without it all is, at once, and what is malformed ends the connection.
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
        wants: Wants | None = None,
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
        self._wants = wants
        self._on_up = on_up
        self._on_down = on_down
        self._credentials = Credentials(name, broker)
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._early: list[Delivery] = []
        self._on_acknowledged: dict[int, Acknowledged] = {}
        self._patience = Patience()
        self._pulse = Pulse()
        self._path = Path()
        self._large: set[int] = set()
        self._up_s = float("-inf")
        self._short_lived = 0
        self._standing: Message | None = None
        self._why_down = "no connection was tried yet"
        self._news = News()
        self._looked_at_s = float("-inf")
        MQTT_LINK_UP.labels(name).set(0)  # one that never comes up is down, not unknown

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._running = [
            self._tasks.create_task(self._keep_connected(), name=f"mqtt.{self.name}"),
            self._tasks.create_task(self._credentials.watch(), name=f"mqtt.{self.name}.certificates"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
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
        """Return nothing while the broker is there and answers, else what is wrong (see `health.Check`)."""
        self._looked_at_s = time.monotonic()
        if self._connection is None or not self.is_up:
            return f"no connection to {self._broker.address}: {self._why_down}"
        if (silent_s := self._connection.silent_s()) > SILENT_S:
            return f"{self._broker.address} has not answered for {silent_s:.0f} s"
        if (problem := self._path.why_not_ready(self._looked_at_s - self._up_s)) is not None:
            return f"{self._broker.address}: {problem}"
        return None

    async def wait_up(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    def publish(self, message: Message, on_acknowledged: Acknowledged | None = None) -> None:
        """Hand a message to the connection; it is on its way when this returns, no more.

        Args:
            message: what to publish.
            on_acknowledged: for QoS 1: called when the broker has answered, with the reason if it has refused
                the message or nobody has heard it; never after the connection is lost.

        Raises:
            LinkDown: there is no connection; nothing was sent.
            PacketTooLarge: the broker would close the connection; nothing was sent.
        """
        self._note_standing(message)
        if self._connection is None or not self.is_up:
            raise LinkDown(self._broker.address)
        if packet_bytes(message) > self.max_packet_bytes:
            raise PacketTooLarge(f"{len(message.payload)} bytes, {self.max_packet_bytes} allowed")
        info = self._connection._client.publish(
            message.topic, message.payload, message.qos, message.retain, to_properties(message)
        )
        if info.rc != 0:
            raise LinkDown(f"{self._broker.address}: {info.rc!r}")
        if message.qos == 0:
            return
        if on_acknowledged is not None:
            self._on_acknowledged[info.mid] = on_acknowledged
        if len(message.payload) > LARGE_BYTES:
            self._large.add(info.mid)

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
        began_s = time.monotonic()
        try:
            await client.connect()
            self._connection = client
            try:
                await self._subscribe(client)
                self._patience.worked(time.monotonic() - began_s)
                self._credentials.note_broker(client.shown_certificate())
                self._become_up()
                await self._stay(client, backoff)
            finally:
                await self._leave(client)
        finally:
            client.close()

    async def _stay(self, client: Connection, backoff: Backoff) -> None:
        since_s = time.monotonic()
        is_said_again = False
        while not await client.ends(WATCH_EVERY_S):
            now_s = time.monotonic()
            client.take_pulse(is_asked=bool(self._on_acknowledged) or now_s - self._looked_at_s < LOOKED_AT_S)
            if not is_said_again and now_s - since_s > OLD_WILL_S:
                self._say_standing_again()
                is_said_again = True
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
        self._note_path(client, time.monotonic() - since_s)
        problem = self._path.problem if client.is_silent else None
        raise aiomqtt.MqttError(client.why if problem is None else f"{client.why}; {problem}")

    def _note_path(self, client: Connection, up_s: float) -> None:
        before = self._path.segment_bytes
        self._path.ended(is_silent=client.is_silent, is_stuck=bool(self._large), up_s=up_s)
        if (now := self._path.segment_bytes) != before:
            log.warning("mqtt.segments", link=self.name, broker=self._broker.address, most_bytes=now)

    def _say_standing_again(self) -> None:
        if self._standing is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._standing)

    async def _leave(self, client: Connection) -> None:
        was_up = self.is_up
        if client.is_alive and was_up and self._will is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._will)
        self._connection = None
        self._up.clear()
        self._early.clear()
        self._on_acknowledged.clear()
        self._large.clear()
        MQTT_LINK_UP.labels(self.name).set(0)
        if was_up and self._on_down is not None:
            self._on_down()
        await client.say_goodbye()

    def _become_up(self) -> None:
        self._up.set()
        self._up_s = time.monotonic()
        self._path.begin()
        self._news.over()
        MQTT_LINK_UP.labels(self.name).set(1)
        log.info("mqtt.link_up", link=self.name, broker=self._broker.address)
        if self._on_up is not None:
            self._on_up()
        for delivery in self._early:
            self._deliveries.put_nowait(delivery)
        self._early.clear()

    def _make_client(self) -> Connection:
        broker = self._broker
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._receive_maximum
        properties.SessionExpiryInterval = 0
        will = self._will
        client = Connection(
            broker.host,
            broker.port,
            username=broker.user,
            password=broker.password,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain) if will else None,
            timeout_s=self._patience.next_s(),
            pulse=self._pulse,
            way=Way(broker.proxy, broker.websocket, self._path.segment_bytes),
            keepalive=KEEP_ALIVE_S,
            clean_start=True,
            properties=properties,
            tls_context=self._credentials.context(),
        )
        paho = client._client
        paho.manual_ack_set(True)
        client.reader.on_publication = lambda publication: self._receive(client, publication)
        paho.on_publish = lambda _paho, _data, mid, code, _properties: self._acknowledged(mid, code)
        paho.on_connect = self._limits_reader(paho.on_connect)
        return client

    async def _subscribe(self, client: Connection) -> None:
        granted = await client.ask_for(self._subscriptions)
        for topic, code in zip(self._subscriptions, granted, strict=True):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise aiomqtt.MqttError(
                    f"the broker refused the subscription to {_without_group(topic)}: {code}"
                )

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

    def _receive(self, client: Connection, publication: Publication) -> None:
        size_bytes = len(publication.packet) + PACKET_BYTES
        if size_bytes > LARGE_BYTES:
            self._path.received()
        if (topic := publication.topic) is None:
            _drops.count("bad_topic", self.name)
        elif self._wants is not None:
            if self._wants(topic, size_bytes):  # whoever does not want it counts it, and bounds what waits
                self._hand_over(Delivery(publication, topic, self, client))
                return
        elif publication.qos == 0 and self._deliveries.qsize() >= MAX_WAITING:
            _drops.count("queue_full", self.name)
        else:
            delivery = Delivery(publication, topic, self, client)
            delivery.take_apart()
            self._hand_over(delivery)
            return
        if publication.qos > 0:
            client.reader.acknowledge(publication.packet_id)

    def _hand_over(self, delivery: Delivery) -> None:
        # What is retained comes together with the answer to our subscriptions: nobody is to hear of a message
        # while the link seems to be down.
        if self.is_up:
            self._deliveries.put_nowait(delivery)
        else:
            self._early.append(delivery)

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        then = self._on_acknowledged.pop(mid, None)
        if mid in self._large:
            self._large.discard(mid)
            self._path.sent()
        if reason.is_failure:
            _drops.count("refused_by_broker", self.name, code=str(reason))
        if then is not None:
            then(None if reason.value == 0 else as_reason(str(reason)))


def _without_group(topic: str) -> str:
    """Return a topic filter as it may be shown: the name of a group that shares it may be a secret."""
    return topic.split("/", 2)[2] if topic.startswith("$share/") else topic


def _mint(identity: str) -> str:
    return f"{identity}-{secrets.token_hex(4)}"
