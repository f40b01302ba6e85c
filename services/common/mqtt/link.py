"""A connection to a broker, or to one of several, that comes back by itself.

aiomqtt brings paho-mqtt's protocol engine onto the event loop. Three things that it leaves to paho are
taken from there: acknowledgement by the application, the broker's limits out of its CONNACK, and the
reason codes of PUBACK. Others are done in their place: see `connection` and `packets`.
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
from services.common.mqtt.joining import Identity, granted, make_connection, subscribe
from services.common.mqtt.line import Line
from services.common.mqtt.lines import End, Lines
from services.common.mqtt.liveness import SILENT_S, Lookout
from services.common.mqtt.outgoing import LinkDown, Outgoing, PacketTooLarge
from services.common.mqtt.unanswered import PUBACK_S, Acknowledged
from services.common.runtime.queues import Backoff
from services.common.wire.message import Message

KEEP_ALIVE_S = 15
WATCH_EVERY_S = 0.5
LOOKED_AT_S = 5.0
"""For so long after somebody has asked whether we are ready the broker is asked whether it is there."""
STEADY_S = 3.0
"""A connection that lasted so long was a good one; the next try follows at once."""
DRAIN_S = 3.0
"""So long may it take until a connection is left that is left for a better one."""
OLD_WILL_S = 2 * KEEP_ALIVE_S
"""So long after an earlier process went without a word a broker may publish its will: it waits one and a half
times the keep-alive."""


class Link:
    """A connection to a broker that comes back by itself, subscribed anew each time.

    Where there are several brokers it is to one of them, whichever comes first in an order of our own and
    can be had (see `Roster`); after a while on another the better ones are looked at.

    Use it as an async context manager, which keeps the connection for as long as it lasts and does not
    wait for the first one; iterate over it for deliveries.

    Args:
        name: which broker this is, for logs and metrics: `local` or `cloud`.
        broker: where it is, or each of several that will do.
        identity: `{service}-{device}`; the client id is this and a random end, the same for all connections
            of the link: a new one takes over the session of one that died without a word, and its will is
            published before the new one says anything, not when its keep-alive is over.
        subscriptions: topic filters, each at QoS 1 (the publisher's QoS decides).
        receive_maximum: QoS 1 messages that the broker may have unacknowledged here.
        most_bytes: the largest packet that the broker may send; nothing for whatever the protocol has.
        will: published by the broker if this process goes without a word, and by the link when it closes; or
            what makes the one of each connection, before that begins. If it is retained, what was last
            published on its topic is said once more some time after each connection, for the will of an
            earlier process may have come behind it.
        wants: for whoever may be sent more than can be read: is asked about each message before it is taken
            apart. What is not wanted is acknowledged and forgotten; the rest is taken apart when it is looked
            at. Without it all is, at once, and what is malformed ends the connection.
        rest_s: is asked where there is more than could be read in a moment, for how long to leave it.
        on_up: called after each connection, when the subscriptions are granted.
        on_down: called after each loss of the connection.
        drain: awaited before a connection that works is left for a better broker, for a few seconds at most:
            what is under way by then is answered over the old one.

    Attributes:
        end_code: what the broker ended the last connection with (MQTT 5.0, 3.14.2.1); nothing if it did not.

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
        self._lines = Lines(name, [broker] if isinstance(broker, Broker) else broker, identity)
        self._identity = Identity(identity)
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
        self._inbox = Inbox(name, wants, lambda: self._line.path.received())  # noqa: PLW0108 - it changes
        self._outgoing = Outgoing(name)
        self._why_leave: str | None = None
        self._up_s = self._looked_at_s = float("-inf")
        self.end_code: int | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._running = [
            self._tasks.create_task(self._keep_connected(), name=f"mqtt.{self.name}"),
            *(
                self._tasks.create_task(line.credentials.watch(), name=f"mqtt.{self.name}.certificates")
                for line in self._lines
            ),
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
        return await self._inbox.get()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection with all its subscriptions."""
        return self._up.is_set()

    @property
    def address(self) -> str:
        """The broker that is used, or was tried last: host and port."""
        return self._line.address

    @property
    def waiting_bytes(self) -> int:
        """What the messages take that have come in and were not taken yet; 0: there is none."""
        return self._inbox.waiting_bytes

    @property
    def max_packet_bytes(self) -> int:
        """The largest packet the connected broker takes, by its own word or by what was seen of it."""
        return self._outgoing.max_packet_bytes

    def why_not_ready(self) -> str | None:
        """Return None while the broker is there and answers, else what is wrong (see `health.Check`)."""
        self._looked_at_s = time.monotonic()
        if self._connection is None or not self.is_up:
            return f"no connection to {self._lines.why_down}"
        if (silent_s := self._connection.silent_s()) > SILENT_S:
            return f"{self.address} has not answered for {silent_s:.0f} s"
        if self._line.fault is not None:
            return f"{self.address}: {self._line.fault}"
        if (problem := self._line.path.why_not_ready(self._looked_at_s - self._up_s)) is not None:
            return f"{self.address}: {problem}"
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
        self._outgoing.note(message)
        if not self.is_up:
            raise LinkDown(f"there is no connection to {self.address}")
        self._outgoing.publish(message, on_acknowledged)

    async def subscribe(self, topics: Sequence[str]) -> frozenset[str]:
        """Subscribe to more, on the present connection alone; return what the broker has granted of it.

        Raises:
            LinkDown: there is no connection, or no answer.
        """
        if self._connection is None or not self.is_up:
            raise LinkDown(self.address)
        try:
            return await granted(self._connection, topics)
        except aiomqtt.MqttError as error:
            raise LinkDown(str(error)) from error

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """End subscriptions; what is under way still comes. Without a connection there are none."""
        if self._connection is not None:
            self._connection.leave(topics)

    def leave(self, why: str, *, or_anew: bool = False) -> bool:
        """Go on to another broker, if there is one that has not just failed; say whether there is.

        Args:
            why: what is wrong with this one, though it lets us in.
            or_anew: where there is none, connect to this one anew.
        """
        has_other = self._lines.roster.has_other(self._lines.at, time.monotonic())
        if self._connection is None or not (has_other or or_anew):
            return False
        self._why_leave = self._why_leave or why
        return True

    @property
    def _line(self) -> Line:
        return self._lines.current

    async def _keep_connected(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            self._lines.turn(time.monotonic())
            if await self._connect_and_stay(backoff):
                await asyncio.sleep(self._lines.wait_s(backoff, time.monotonic()))

    async def _connect_and_stay(self, backoff: Backoff) -> bool:
        """Return when there is no connection, or none any more; false where it is left for a better one."""
        client = self._make_client()
        began_s = time.monotonic()
        try:
            await self._join(client, began_s)
            await self._stay(client, backoff)
        except (aiomqtt.MqttError, LinkDown, PacketTooLarge) as error:
            now_s = time.monotonic()
            up_s = now_s - self._up_s if self.is_up else 0.0
            end = End(
                str(error), client, self._outgoing.unanswered.sizes, is_left=self._why_leave is not None
            )
            self._lines.ended(end, up_s, now_s)
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
        self._outgoing.begin(client, self._line)
        limits = self._outgoing.limits
        if not await subscribe(client, self._subscriptions, has_shared=limits.has_shared):
            self._outgoing.limits = limits.without({"shared"})
        self._line.patience.worked(time.monotonic() - began_s)
        self._line.credentials.note_broker(client.shown_certificate())
        self._become_up()

    async def _stay(self, client: Connection, backoff: Backoff) -> None:
        better = await self._watch(client)
        up_s = time.monotonic() - self._up_s
        if up_s > STEADY_S:
            backoff.reset()
        if better is not None:
            self._lines.move(better)
            return
        self._identity.ended(is_short=up_s <= STEADY_S, is_taken_over=client.is_taken_over)
        self._lines.note_path(up_s, is_silent=client.is_silent, is_stuck=self._outgoing.unanswered.has_large)
        if self._why_leave is not None:
            raise aiomqtt.MqttError(self._why_leave)
        problem = self._line.path.problem if client.is_silent else None
        raise aiomqtt.MqttError(client.why if problem is None else f"{client.why}; {problem}")

    async def _watch(self, client: Connection) -> int | None:
        """Return when the connection has ended, or which broker it is to be left for."""
        is_said_again = False
        async with Lookout(self._lines.roster, self._lines.at, self._lines.can_be_had) as lookout:
            while self._why_leave is None and not await client.ends(WATCH_EVERY_S):
                now_s = time.monotonic()
                if self._outgoing.unanswered.is_ignored(client.read_until_s, now_s):
                    self._why_leave = f"it has acknowledged nothing for {PUBACK_S:g} s"
                client.take_pulse(
                    is_asked=bool(self._outgoing.unanswered) or now_s - self._looked_at_s < LOOKED_AT_S
                )
                if not is_said_again and now_s - self._up_s > OLD_WILL_S:
                    self._outgoing.say_again()
                    is_said_again = True
                if (better := lookout.found(now_s)) is not None:
                    await self._finish()
                    return better
        return None

    async def _finish(self) -> None:
        """Have what is under way answered before a connection that works is left."""
        if self._drain is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._drain()

    async def _leave(self, client: Connection) -> None:
        was_up = self.is_up
        if self._connection is None:
            return  # it has not let us in
        if client.is_alive and was_up and self._will is not None:
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self.publish(self._will)
        self._connection = self._why_leave = None
        self._up.clear()
        self._inbox.close()
        self._outgoing.end()
        self._lines.down()
        if was_up and self._on_down is not None:
            self._on_down()
        await client.say_goodbye()

    def _become_up(self) -> None:
        self._up.set()
        self._up_s = time.monotonic()
        self._lines.up(self._up_s, self._outgoing.limits)
        if self._on_up is not None:
            self._on_up()
        self._inbox.open()

    def _make_client(self) -> Connection:
        self._will = self._outgoing.will = self._make_will()
        client = make_connection(
            self._line,
            self._identity.client_id,
            keep_alive_s=KEEP_ALIVE_S,
            receive_maximum=self._receive_maximum,
            most_bytes=self._most_bytes,
            will=self._will,
            on_limits=self._outgoing.know,
        )
        if (rest_s := self._rest_s) is not None:
            client.reader.on_more = lambda: client.rest(rest_s())
        client.reader.on_publication = lambda publication: self._inbox.receive(client, publication)
        return client
