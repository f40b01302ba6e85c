"""One connection to a broker: aiomqtt's client, with what it lacks or does too slowly replaced."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from services.common.mqtt import replaced, sockets
from services.common.mqtt.liveness import Heartbeat
from services.common.mqtt.packets import PUBLISH, bundle
from services.common.mqtt.reasons import (
    KEEP_ALIVE_TIMEOUT,
    TAKEN_OVER,
    SocketErrors,
    describe_reason,
    why_lost,
    why_refused,
)
from services.common.mqtt.sockets import Route

GOODBYE_TIMEOUT_S = 1.0
_NO_CALL = 1
"""The QoS noted beside a queued packet, not in it: for packets noted as QoS 0 paho calls back once sent."""

T = TypeVar("T")


class Connection(aiomqtt.Client):
    """One connection, used once, which knows why it ended, whenever that was.

    aiomqtt notices an end only once it is connected. It leaves a socket open after a failed or cancelled
    attempt to connect, and it connects in a thread, which opens its socket even after a cancellation. For
    each packet it waits until the event loop calls the socket writable: seven system calls, and nearly always
    it is.

    Args:
        username: see `Broker.user`.
        password: see `Broker.password`.
        timeout_s: for each of the broker's answers, and for the socket, seconds.
        heartbeat: the broker's; outlives the connection.
        route: how the broker is reached. All else is for aiomqtt.

    Attributes:
        reader: reads and acknowledges incoming packets.
        is_taken_over: whether it ended because another client has connected with its id.
        is_silent: whether it ended because nothing was heard of the broker.
        code: the reason code with which the broker refused or ended it; None if it did not.
        reference: other brokers' addresses that the broker gave with that; empty: none.
        read_until_s: what was sent before then (steady clock) was read: a later PINGREQ was answered.
    """

    def __init__(
        self,
        *arguments: Any,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float,
        heartbeat: Heartbeat,
        route: Route,
        **options: Any,
    ) -> None:
        self._timeout_s = timeout_s
        self._socket_errors = SocketErrors()
        super().__init__(
            *arguments, username=username, password=password, logger=self._socket_errors, **options
        )
        self.is_taken_over = False
        self.is_silent = False
        self.code: int | None = None
        self.reference = ""
        self.read_until_s = float("-inf")
        self._question_s: float | None = None
        self._thread = threading.get_ident()
        self._is_over = False
        self._awaited = "CONNACK"
        self._has_lone_password = password is not None and username is None
        self._heartbeat = heartbeat
        heartbeat.begin(time.monotonic())
        self._unsent_bytes = 0
        self._is_paused = False
        self.reader = replaced.replace(
            self._client, route, lone_password=password if self._has_lone_password else None
        )

    async def connect(self) -> None:
        """Connect, and return once the broker has accepted the connection.

        Raises:
            aiomqtt.MqttError: there is no connection; says why.
        """
        try:
            # Blocks for the name's lookup, the connection and the TLS handshake.
            await self._loop.run_in_executor(None, self._client_connect)
        except ssl.SSLError as error:
            raise aiomqtt.MqttError(f"TLS: {error}") from error
        except ConnectionResetError as error:  # before paho has begun to read
            is_plain = self._client._ssl_context is None
            raise aiomqtt.MqttError("closed before CONNACK" if is_plain else f"TLS: {error}") from error
        except (OSError, UnicodeError) as error:  # the host's name may be impossible to encode
            raise aiomqtt.MqttError(str(error) or type(error).__name__) from error
        await self._answer(self._connected)

    async def request_subscriptions(self, topics: Sequence[str]) -> tuple[int, ...] | list[ReasonCode]:
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

    def drop_subscriptions(self, topics: Sequence[str]) -> None:
        """Unsubscribe from topic filters."""
        if topics and self.is_alive:
            _, mid = self._client.unsubscribe([*topics])
            if mid is not None:  # else the connection is lost already
                self._pending_unsubscribes[mid] = asyncio.Event()  # aiomqtt fails on an answer without one

    def pause_reading(self, seconds: float) -> None:
        """Read nothing for so many seconds, if more than 0: what comes waits in the broker."""
        sock: Any = self._client.socket()
        if seconds > 0 and sock is not None and not self._is_paused:
            self._is_paused = True
            self._loop.remove_reader(sock.fileno())
            self._loop.call_later(seconds, self._read_on, sock, sock.fileno())

    def _read_on(self, sock: Any, fileno: int) -> None:
        self._is_paused = False
        if self._client.socket() is sock:  # else the descriptor may be another socket's by now
            self._loop.add_reader(fileno, self._read)
            self._read()  # TLS may have taken more out of the socket than was read

    def _read(self) -> None:
        """Do what aiomqtt's own callback does, a local function that cannot be reached."""
        try:
            self._client.loop_read()
        except (OSError, ValueError) as error:
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    async def ends(self, timeout_s: float | None = None) -> bool:
        """Wait for the connection's end; return whether it came in time."""
        await asyncio.wait([self._disconnected], timeout=timeout_s)
        return not self.is_alive

    def send(self, publication: bytes) -> bool:
        """Queue a PUBLISH packet of QoS 0; return False if there is no socket.

        paho's `publish` takes six times as long: once the packet is sent it makes up an acknowledgement and
        calls back with it.
        """
        paho: Any = self._client
        if paho.socket() is None:
            return False
        paho._packet_queue(PUBLISH, publication, 0, _NO_CALL)
        return True

    def check_alive(self, *, is_asked: bool) -> None:
        """Check for signs of life, and end the connection if the broker does not answer.

        Bytes of ours that the other side's TCP has acknowledged are a sign of life too: on a slow link a
        PINGREQ behind a large face waits longer than any answer takes.

        Args:
            is_asked: whether a PINGREQ may be sent if nothing was heard for a while.
        """
        paho = self._client
        if self._question_s is not None:
            self._read_pending()
        now_s = time.monotonic()
        self._note_answer()
        unsent_bytes = sockets.unsent_bytes(self._client.socket())
        # paho sees nothing of a WebSocket frame that is not complete yet.
        heard_s = getattr(paho.socket(), "heard_s", 0.0)
        if 0 < unsent_bytes < self._unsent_bytes:
            # Not at 0: the last bytes may have been taken by the kernel of a broker that hangs.
            heard_s = now_s
        if heard_s > paho._last_bytes_received:
            # For paho's keep-alive too, or a face that takes longer than that could never be sent.
            paho._last_bytes_received = heard_s
            paho._ping_t = now_s if paho._ping_t else 0.0
        self._unsent_bytes = unsent_bytes
        self._heartbeat.is_alive(paho._last_bytes_received)
        if is_asked and self._heartbeat.asks(now_s):
            paho._send_pingreq()
            self._question_s = now_s
        if self.is_alive and self._heartbeat.gives_up(now_s):
            self.is_silent = True
            self._disconnected.set_exception(aiomqtt.MqttError(f"no answer for {self.silent_s():.0f} s"))

    def _note_answer(self) -> None:
        if self._question_s is not None and not self._client._ping_t:
            self.read_until_s, self._question_s = self._question_s, None

    def silent_s(self) -> float:
        """Return for how long a PINGREQ has had no answer, seconds; 0.0 if none is open."""
        return self._heartbeat.silent_s(time.monotonic())

    def shown_certificate(self) -> bytes | None:
        """Return the certificate that the broker has shown, DER, or None without TLS."""
        connection: Any = self._client.socket()
        secured = getattr(connection, "secured", connection)
        return secured.getpeercert(binary_form=True) if isinstance(secured, ssl.SSLSocket) else None

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not ended."""
        return not self._disconnected.done()

    @property
    def why(self) -> str:
        """Why the connection has ended, in words; to be asked only once it has."""
        error = self._disconnected.exception()
        return str(error) if isinstance(error, aiomqtt.MqttError) else f"the connection broke: {error!r}"

    async def say_goodbye(self) -> None:
        """Send DISCONNECT, so that the broker does not publish the will, and read until it closes.

        Closing a socket with unread data resets the connection. A broker that is just writing to it would
        take us for dead and publish the will, although our DISCONNECT waits to be read.
        """
        if not self.is_alive:
            return
        self.reader.on_publication = lambda _: None
        with replaced.closed_by_the_broker(self._client) as closed:
            if self._client.disconnect() == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                        await closed.wait()

    def close(self) -> None:
        """Close the socket, now or as soon as there is one."""
        self._is_over = True
        if self._client.socket() is not None:
            self._client._sock_close()
        for future in (self._connected, self._disconnected):
            if future.done():
                future.exception()  # else asyncio logs that it was never retrieved

    async def _answer(self, answer: "asyncio.Future[T]") -> T:
        """Return the broker's answer, or raise why none comes."""
        either: list[asyncio.Future[Any]] = [answer, self._disconnected]
        done, _ = await asyncio.wait(either, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._read_pending()
        if answer.done():
            return answer.result()
        raise aiomqtt.MqttError(
            f"no {self._awaited} within {self._timeout_s:g} s" if self.is_alive else self.why
        )

    def _on_connect(
        self,
        client: Any,
        userdata: Any,
        flags: Any,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if reason_code.is_failure and not self._connected.done():
            words = describe_reason(reason_code, properties)
            why = why_refused(reason_code.value, words, has_lone_password=self._has_lone_password)
            self._note_reason(reason_code, properties)
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
            self._note_reason(reason_code, properties)
            self.is_taken_over = reason_code.value == TAKEN_OVER
            why = f"the broker ended it: {describe_reason(reason_code, properties)}"
        else:
            self.is_silent = reason_code.value == KEEP_ALIVE_TIMEOUT
            why = self.reader.problem or why_lost(
                reason_code.value, self._awaited, self._socket_errors.problem, int(self._client._keepalive)
            )
        self._disconnected.set_exception(aiomqtt.MqttError(why))

    def _note_reason(self, reason: ReasonCode, properties: Properties | None) -> None:
        self.code = reason.value
        self.reference = getattr(properties, "ServerReference", "")

    async def _misc_loop(self) -> None:
        # Brokers wait 1.5 times the keep-alive: with one of 1 s, aiomqtt's check each second comes too late.
        while self._keep_alive() == 0:  # noqa: ASYNC110 - paho looks at its clock, nothing signals
            await asyncio.sleep(min(1.0, self._client._keepalive / 4))

    def _keep_alive(self) -> int:
        paho: Any = self._client
        if paho._ping_t:
            self._read_pending()
        return int(paho.loop_misc())

    def _read_pending(self) -> None:
        """Read what has come, before the broker is judged by its silence.

        After this process was held up, by loading a model or on an overloaded machine, uvloop runs timers
        before it reads the answer that has come meanwhile.
        """
        sock: Any = self._client.socket()
        if not self._is_paused and sockets.is_readable(sock):
            self._read()

    def _on_socket_register_write(self, client: Any, userdata: object, sock: Any) -> None:
        is_connecting = threading.get_ident() != self._thread
        call = self._loop.call_soon_threadsafe if is_connecting else self._loop.call_soon
        call(self._write, client, userdata, sock)

    def _write(self, client: Any, userdata: object, sock: Any) -> None:
        if client.socket() is not sock:
            return
        bundle(client._out_packet)
        try:
            client.loop_write()
        finally:
            # The rest, or an error, is left to aiomqtt's own callback, which ends a broken connection.
            if client.socket() is sock and client.want_write():
                super()._on_socket_register_write(client, userdata, sock)

    def _client_connect(self) -> None:
        super()._client_connect()
        self._loop.call_soon_threadsafe(lambda: self.close() if self._is_over else None)
