"""A connection to a broker, or to one of several, that comes back by itself.

aiomqtt runs paho-mqtt's protocol engine on the event loop. `connection`, `session` and `replaced` say what is
taken from paho directly, or replaced.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import aiomqtt

from services.common.mqtt.broker import Broker
from services.common.mqtt.connection import Connection
from services.common.mqtt.delivery import Delivery, Inbox, Wants
from services.common.mqtt.endpoint import Endpoint
from services.common.mqtt.in_flight import PUBACK_S, Acknowledged
from services.common.mqtt.liveness import SILENT_S
from services.common.mqtt.outgoing import LinkDown, Outgoing, PacketTooLarge
from services.common.mqtt.pool import BrokerPool, End, Failback
from services.common.mqtt.session import KEEP_ALIVE_S, ClientId, make_connection, subscribe, try_subscribe
from services.common.runtime.concurrency import Backoff
from services.common.wire.message import Message

WATCH_EVERY_S = 0.5
LOOKED_AT_S = 5.0
"""The broker is asked for a sign of life for this long after a readiness check."""
STEADY_S = 3.0
"""After a connection that lasted this long the next try follows at once."""
DRAIN_S = 3.0
"""The longest wait for answers before a connection is left for a better broker."""
OLD_WILL_S = 2 * KEEP_ALIVE_S
"""By then a broker has published the will of a process that died: it waits 1.5 times the keep-alive."""


class Link:
    """A connection to a broker that comes back by itself, subscribed anew each time.

    With several brokers it uses one at a time: the first in an order of its own that can be reached (see
    `Failover`). From another one it goes back to a preferred one after a while.

    As an async context manager it keeps the connection while the context lasts, and does not wait for the
    first one; iterate over it for deliveries.

    Args:
        name: the broker's name in logs and metrics: `local` or `cloud`.
        broker: how to reach it; or several, of which one is used.
        identity: `{service}-{device}`. The client id is this and a random suffix, the same for all the
            link's connections: a new connection takes over the session of a dead one, so that the broker
            publishes the dead one's will before the new one's first message, not when its keep-alive is over.
        subscriptions: topic filters, each at QoS 1 (the publisher's QoS decides).
        receive_maximum: QoS 1 messages that the broker may have unacknowledged here.
        most_bytes: the largest packet that the broker may send; None: the protocol's limit.
        will: published by the broker if this process dies, and by the link when it closes; or a function that
            makes the will of each connection before it begins. If it is retained, the last message on its
            topic is repeated some time after each connection: an earlier process's will may have come late.
        wants: for services that may be sent more than they can read: called with a message's topic and size
            before it is parsed. An unwanted message is acknowledged and dropped, a wanted one is parsed when
            `Delivery.message` is read. None: all are parsed at once, and a malformed one ends the connection.
        rest_s: called when more has come than was read in one turn; returns how long to pause, seconds.
        on_up: called after each connection, once the subscriptions are granted.
        on_down: called after each loss of the connection.
        drain: awaited before a working connection is left for a better broker, for `DRAIN_S` at most: what is
            in flight by then is answered over the old one.

    Attributes:
        end_code: the reason code with which the broker ended the last connection (MQTT 5.0, 3.14.2.1); None
            if it did not.

    Raises:
        SetupError: certificate files that cannot be used.
    """

    def __init__(
        self,
        name: str,
        broker: Broker | Sequence[Broker],
        *,
        identity: str,
        subscriptions: Sequence[str] = (),
        receive_maximum: int = 64,
        most_bytes: int | None = None,
        will: Message | Callable[[], Message] | None = None,
        wants: Wants | None = None,
        rest_s: Callable[[], float] | None = None,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[], None] | None = None,
        drain: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self._pool = BrokerPool(name, [broker] if isinstance(broker, Broker) else broker, identity)
        self._client_id = ClientId(identity)
        self._subscriptions = subscriptions
        self._receive_maximum = receive_maximum
        self._most_bytes = most_bytes
        self._rest_s = rest_s
        self._make_will: Callable[[], Message | None] = will if callable(will) else lambda: will
        self._will: Message | None = None
        self._on_up = on_up
        self._on_down = on_down
        self._drain = drain
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._inbox = Inbox(name, wants, lambda: self._endpoint.path_mtu.received())  # noqa: PLW0108 - it changes
        self._outgoing = Outgoing(name)
        self._why_leave: str | None = None
        self._up_s = self._looked_at_s = float("-inf")
        self.end_code: int | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._running = [
            self._tasks.create_task(self._keep_connected(), name=f"mqtt.{self.name}"),
            self._tasks.create_task(self._pool.watch_certificates(), name=f"mqtt.{self.name}.certificates"),
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
        """Return the next delivery, whichever connection it came by."""
        return await self._inbox.get()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection with all its subscriptions."""
        return self._up.is_set()

    @property
    def address(self) -> str:
        """Host and port of the broker that is used, or was tried last."""
        return self._endpoint.address

    @property
    def waiting_bytes(self) -> int:
        """Memory of the messages that have come in and were not taken yet; 0: there is none."""
        return self._inbox.waiting_bytes

    @property
    def max_packet_bytes(self) -> int:
        """The largest packet that the broker takes, as it says or as was learnt from lost connections."""
        return self._outgoing.max_packet_bytes

    def why_not_ready(self) -> str | None:
        """Return None while the broker is connected and answers, else what is wrong (see `http.Check`)."""
        self._looked_at_s = time.monotonic()
        if self._connection is None or not self.is_up:
            return f"no connection to {self._pool.why_down}"
        if (silent_s := self._connection.silent_s()) > SILENT_S:
            return f"{self.address} has not answered for {silent_s:.0f} s"
        if self._endpoint.fault is not None:
            return f"{self.address}: {self._endpoint.fault}"
        if (problem := self._endpoint.path_mtu.why_not_ready(self._looked_at_s - self._up_s)) is not None:
            return f"{self.address}: {problem}"
        return None

    async def wait_up(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    def publish(self, message: Message, on_acknowledged: Acknowledged | None = None) -> None:
        """Hand a message to the connection. Nothing is known of its arrival when this returns.

        Args:
            message: what to publish.
            on_acknowledged: for QoS 1: called when the broker has answered, with the reason if it refused the
                message or had no subscriber for it; never after the connection is lost.

        Raises:
            LinkDown: there is no connection; nothing was sent.
            PacketTooLarge: the broker would close the connection; nothing was sent.
        """
        self._outgoing.note(message)
        if not self.is_up:
            raise LinkDown(f"there is no connection to {self.address}")
        self._outgoing.publish(message, on_acknowledged)

    async def subscribe(self, topics: Sequence[str]) -> frozenset[str]:
        """Subscribe to further filters on the present connection alone; return those that were granted.

        Raises:
            LinkDown: there is no connection, or no answer.
        """
        if self._connection is None or not self.is_up:
            raise LinkDown(self.address)
        try:
            return await try_subscribe(self._connection, topics)
        except aiomqtt.MqttError as error:
            raise LinkDown(str(error)) from error

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """End subscriptions; deliveries under way still come. Without a connection nothing is done."""
        if self._connection is not None:
            self._connection.drop_subscriptions(topics)

    def leave(self, why: str, *, or_anew: bool = False) -> bool:
        """Move to another broker, if there is one that has not just failed; return whether the move begins.

        Args:
            why: what is wrong with this broker, although it accepts connections.
            or_anew: without another broker, reconnect to this one.
        """
        has_other = self._pool.failover.has_other(self._pool.at, time.monotonic())
        if self._connection is None or not (has_other or or_anew):
            return False
        self._why_leave = self._why_leave or why
        return True

    @property
    def _endpoint(self) -> Endpoint:
        return self._pool.current

    async def _keep_connected(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            self._pool.move_on(time.monotonic())
            if await self._connect_and_stay(backoff):
                await asyncio.sleep(self._pool.wait_s(backoff, time.monotonic()))

    async def _connect_and_stay(self, backoff: Backoff) -> bool:
        """Return when the connection failed or ended; False if it was left for a better broker."""
        client = self._make_client()
        began_s = time.monotonic()
        try:
            await self._join(client, began_s)
            await self._stay(client, backoff)
        except (aiomqtt.MqttError, LinkDown, PacketTooLarge) as error:
            now_s = time.monotonic()
            up_s = now_s - self._up_s if self.is_up else 0.0
            end = End(str(error), client, self._outgoing.in_flight.sizes, is_left=self._why_leave is not None)
            self._pool.ended(end, up_s, now_s)
            return True
        else:
            return False
        finally:
            self.end_code = client.code
            await self._leave(client)
            client.close()

    async def _join(self, client: Connection, began_s: float) -> None:
        await client.connect()
        self._connection = self._inbox.connection = client
        self._outgoing.begin(client, self._endpoint)
        limits = self._outgoing.limits
        if not await subscribe(client, self._subscriptions, has_shared=limits.has_shared):
            self._outgoing.limits = limits.without({"shared"})
        self._endpoint.connect_timeout.worked(time.monotonic() - began_s)
        self._endpoint.credentials.note_broker(client.shown_certificate())
        self._become_up()

    async def _stay(self, client: Connection, backoff: Backoff) -> None:
        better = await self._watch(client)
        up_s = time.monotonic() - self._up_s
        if up_s > STEADY_S:
            backoff.reset()
        if better is not None:
            self._pool.move(better)
            return
        self._client_id.ended(is_short=up_s <= STEADY_S, is_taken_over=client.is_taken_over)
        self._pool.note_path(up_s, is_silent=client.is_silent, is_stuck=self._outgoing.in_flight.has_large)
        if self._why_leave is not None:
            raise aiomqtt.MqttError(self._why_leave)
        problem = self._endpoint.path_mtu.problem if client.is_silent else None
        raise aiomqtt.MqttError(client.why if problem is None else f"{client.why}; {problem}")

    async def _watch(self, client: Connection) -> int | None:
        """Return None when the connection has ended, or the number of the broker to leave it for."""
        is_said_again = False
        async with Failback(self._pool.failover, self._pool.at, self._pool.is_accepting) as failback:
            while self._why_leave is None and not await client.ends(WATCH_EVERY_S):
                now_s = time.monotonic()
                if self._outgoing.in_flight.is_ignored(client.read_until_s, now_s):
                    self._why_leave = f"it has acknowledged nothing for {PUBACK_S:g} s"
                client.check_alive(
                    is_asked=bool(self._outgoing.in_flight) or now_s - self._looked_at_s < LOOKED_AT_S
                )
                if not is_said_again and now_s - self._up_s > OLD_WILL_S:
                    self._outgoing.say_again()
                    is_said_again = True
                if (better := failback.found(now_s)) is not None:
                    await self._wait_drained()
                    return better
        return None

    async def _wait_drained(self) -> None:
        if self._drain is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._drain()

    async def _leave(self, client: Connection) -> None:
        was_up = self.is_up
        if self._connection is None:
            return  # the connection was never accepted
        if client.is_alive and was_up and self._will is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._will)
        self._connection = self._why_leave = None
        self._up.clear()
        self._inbox.close()
        self._outgoing.end()
        self._pool.down()
        if was_up and self._on_down is not None:
            self._on_down()
        await client.say_goodbye()

    def _become_up(self) -> None:
        self._up.set()
        self._up_s = time.monotonic()
        self._pool.up(self._up_s, self._outgoing.limits)
        if self._on_up is not None:
            self._on_up()
        self._inbox.open()

    def _make_client(self) -> Connection:
        self._will = self._outgoing.will = self._make_will()
        client = make_connection(
            self._endpoint,
            self._client_id.value,
            receive_maximum=self._receive_maximum,
            most_bytes=self._most_bytes,
            will=self._will,
            on_limits=self._outgoing.know,
        )
        if (rest_s := self._rest_s) is not None:
            client.reader.on_more = lambda: client.pause_reading(rest_s())
        client.reader.on_publication = lambda publication: self._inbox.receive(client, publication)
        return client
