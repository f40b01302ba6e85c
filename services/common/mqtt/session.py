"""How a session with a broker begins: client id, CONNECT, will, subscriptions; and one that only probes."""

import secrets
from collections.abc import Callable, Collection, Container, Sequence
from contextlib import suppress
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from services.common.errors import FaceferryError
from services.common.mqtt.broker import Broker
from services.common.mqtt.connection import Connection
from services.common.mqtt.credentials import Credentials
from services.common.mqtt.endpoint import Endpoint
from services.common.mqtt.limits import Limits
from services.common.mqtt.packets import to_properties
from services.common.mqtt.sockets import Route
from services.common.wire.message import Message

KEEP_ALIVE_S = 15
TOO_SHORT_LIVED = 3
"""So many short connections in a row suggest that another client has our client id."""


class ClientId:
    """The client id of a link: the same for all its connections, unless another client uses it too.

    Args:
        name: `{service}-{device}`; a random suffix makes the id unique to the process.

    Attributes:
        name: the same.
        value: the client id.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = _mint(name)
        self._short_lived = 0

    def ended(self, *, is_short: bool, is_taken_over: bool) -> None:
        """Note that a connection that had been up has ended; make a new id if another client has this one.

        We have one connection at a time. If another took it over, a copy of this machine runs with the same
        id, and the two would take over from each other for ever. Not every broker gives that reason.

        Args:
            is_short: whether it was up for a few seconds only.
            is_taken_over: whether the broker gave that reason.
        """
        self._short_lived = self._short_lived + 1 if is_short else 0
        if is_taken_over or self._short_lived >= TOO_SHORT_LIVED:
            self.value = _mint(self.name)
            self._short_lived = 0


def _mint(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


NO_SHARED = 0x9E


def make_connection(
    endpoint: Endpoint,
    client_id: str,
    *,
    receive_maximum: int,
    most_bytes: int | None = None,
    will: Message | None,
    on_limits: Callable[[Limits], None],
) -> Connection:
    """Return a connection to a broker, not connected yet.

    Args:
        endpoint: the broker.
        client_id: the client id.
        receive_maximum: QoS 1 messages that the broker may have unacknowledged here.
        most_bytes: the largest packet that it may send; None: the protocol's limit.
        will: the message that the broker publishes if the connection is lost; None: none.
        on_limits: called with the limits in the CONNACK, before all other callbacks.
    """
    broker = endpoint.broker
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = receive_maximum
    properties.SessionExpiryInterval = 0
    if most_bytes is not None:
        properties.MaximumPacketSize = most_bytes
    client = Connection(
        broker.host,
        broker.port,
        username=broker.user,
        password=broker.password,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        will=_will(will, endpoint.lacks) if will else None,
        timeout_s=endpoint.connect_timeout.next_s(),
        heartbeat=endpoint.heartbeat,
        route=Route(broker.proxy, broker.websocket, endpoint.path_mtu.segment_bytes),
        keepalive=KEEP_ALIVE_S,
        clean_start=True,
        properties=properties,
        tls_context=endpoint.credentials.context(),
    )
    client.reader.most_bytes = most_bytes
    paho: Any = client._client
    if will is not None:
        paho._will_properties = to_properties(will)
    paho.manual_ack_set(True)
    paho.on_connect = _limits_reader(paho.on_connect, endpoint.lacks, on_limits)
    return client


async def subscribe(client: Connection, topics: Sequence[str], *, has_shared: bool) -> bool:
    """Subscribe to topic filters; return whether shared subscriptions were used.

    Args:
        client: a new connection.
        topics: the filters.
        has_shared: whether the broker has shared subscriptions; without them each filter is subscribed alone.

    Raises:
        aiomqtt.MqttError: a filter was refused, or no answer came.
    """
    wanted = topics if has_shared else [_without_group(topic) for topic in topics]
    granted = await client.request_subscriptions(wanted)
    if has_shared and any(_code(code) == NO_SHARED for code in granted):
        return await subscribe(client, topics, has_shared=False)
    for topic, code in zip(topics, granted, strict=True):
        if isinstance(code, ReasonCode) and code.is_failure:
            raise aiomqtt.MqttError(f"the broker refused the subscription to {_without_group(topic)}: {code}")
    return has_shared


async def try_subscribe(client: Connection, topics: Sequence[str]) -> frozenset[str]:
    """Subscribe to topic filters; return those that the broker has granted.

    Raises:
        aiomqtt.MqttError: no answer came.
    """
    codes = await client.request_subscriptions(topics)
    return frozenset(
        topic
        for topic, code in zip(topics, codes, strict=True)
        if not (isinstance(code, ReasonCode) and code.is_failure)
    )


def _code(code: int | ReasonCode) -> int:
    value: int = code.value if isinstance(code, ReasonCode) else code
    return value


def _will(will: Message, lacks: Container[str]) -> aiomqtt.Will:
    """Return a will without the features that the broker lacks."""
    return aiomqtt.Will(
        will.topic,
        will.payload,
        0 if "qos" in lacks else will.qos,
        will.retain and "retain" not in lacks,
    )


def _limits_reader(then: Any, lacks: Collection[str], on_limits: Callable[[Limits], None]) -> Any:
    """Return an `on_connect` that notes the broker's limits before aiomqtt's own runs."""

    def on_connect(
        paho: Any, data: object, flags: object, code: ReasonCode, properties: Properties | None = None
    ) -> None:
        limits = Limits.read(properties.json() if properties is not None else {})  # type: ignore[no-untyped-call]
        # A broker may ask for a shorter keep-alive, not for a longer one: we need its answers too.
        paho._keepalive = min(KEEP_ALIVE_S, limits.keep_alive_s or KEEP_ALIVE_S)
        # paho's setter refuses once the socket is open, which is the first moment the limit is known.
        paho._max_inflight_messages = limits.in_flight
        on_limits(limits.without(lacks))
        then(paho, data, flags, code, properties)

    return on_connect


def _without_group(topic: str) -> str:
    """Return a topic filter as it may be logged: the name of a share group may be a secret."""
    return topic.split("/", 2)[2] if topic.startswith("$share/") else topic


class BrokerUnavailable(FaceferryError):
    """A broker refuses the connection or cannot be reached; says why."""


async def probe(broker: Broker) -> Limits:
    """Connect to a broker, disconnect at once, and return its limits.

    Raises:
        BrokerUnavailable: it refuses the connection or cannot be reached.
        SetupError: certificate files that cannot be used.
    """
    return await probe_endpoint(Endpoint(broker, Credentials("look", broker)), "doctor")


async def probe_endpoint(endpoint: Endpoint, identity: str) -> Limits:
    """Connect to a broker with a client id of its own, disconnect at once, and return the broker's limits.

    Args:
        endpoint: the broker.
        identity: `{service}-{device}`; the client id is this and a random suffix.

    Raises:
        BrokerUnavailable: it refuses the connection or cannot be reached.
    """
    found = Limits()

    def note(limits: Limits) -> None:
        nonlocal found
        found = limits

    client = make_connection(
        endpoint,
        _mint(identity),
        receive_maximum=1,
        will=None,
        on_limits=note,
    )
    try:
        await client.connect()
        with suppress(aiomqtt.MqttError):
            await client.say_goodbye()
    except aiomqtt.MqttError as error:
        raise BrokerUnavailable(str(error)) from error
    finally:
        client.close()
    return found
