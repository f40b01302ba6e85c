"""Connects a judge and a client on a broker."""

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from services.common.errors import SetupError
from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.message import Message
from services.conformance.verdict import Verdict
from services.up.brokers import find_mosquitto, free_port, loopback_config

TICK_S = 0.1
CONNECT_S = 5.0
LAST_WORDS_S = 0.5
"""Seconds in which a client's last messages may still arrive after it has left."""


class Judge(Protocol):
    """Plays a part; see `FaceJudge`."""

    verdict: Verdict

    @property
    def subscriptions(self) -> Sequence[str]:
        """Topic filters for the messages that it takes."""

    def start(self, now_s: float) -> list[Message]:
        """Return the messages to send at the start."""

    def take(self, message: Message, now_s: float) -> list[Message]:
        """Take a message; return the answers to send."""

    def tick(self, now_s: float) -> list[Message]:
        """Return the messages that are due at `now_s`, seconds of a steady clock."""

    def is_over(self, now_s: float) -> bool:
        """Say whether all rules have been seen."""

    def end(self, now_s: float, *, has_left: bool) -> None:
        """Conclude at the end: the client has left (`has_left`), or its time is over."""


async def play(judge: Judge, url: str, command: Sequence[str], timeout_s: float) -> None:
    """Run a judge against a client, until all rules have been seen or the time is over.

    Args:
        judge: plays the other side.
        url: the broker's.
        command: starts the client, which gets the broker in `MQTT_URL`; empty: it is started elsewhere.
        timeout_s: seconds that the client has.

    Raises:
        SetupError: there is no broker.
    """
    async with Link(
        "client", Broker(url), identity="check-client", subscriptions=judge.subscriptions
    ) as link:
        try:
            async with asyncio.timeout(CONNECT_S):
                await link.wait_up()
        except TimeoutError as error:
            raise SetupError(f"no connection to {url}") from error
        hearing = asyncio.create_task(_hear(link, judge), name="conformance.hear")
        try:
            async with _client(command, url) as client:
                _say(link, judge.start(time.monotonic()))
                has_left = await _watch(link, judge, client, time.monotonic() + timeout_s)
        finally:
            hearing.cancel()
    judge.end(time.monotonic(), has_left=has_left)


@contextmanager
def own_broker(port: int) -> Iterator[str]:
    """Run a broker on this machine for as long as the context lasts; yield its URL.

    Raises:
        SetupError: there is no Mosquitto, or it does not start.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "mosquitto.conf")
        config.write_text(loopback_config(port))
        with subprocess.Popen(
            [find_mosquitto(), "-c", str(config)], stderr=subprocess.PIPE, text=True
        ) as server:
            try:
                time.sleep(TICK_S)
                if server.poll() is not None:
                    said = server.stderr.read() if server.stderr else ""
                    raise SetupError(f"the broker does not start on port {port}: {said.strip()[-200:]}")
                yield f"mqtt://127.0.0.1:{port}"
            finally:
                server.terminate()


async def _hear(link: Link, judge: Judge) -> None:
    async for delivery in link:
        delivery.acknowledge()
        _say(link, judge.take(delivery.message, time.monotonic()))


async def _watch(link: Link, judge: Judge, client: asyncio.subprocess.Process | None, until_s: float) -> bool:
    """Wait for the end; return whether the client has left by then."""
    while time.monotonic() < until_s and not judge.is_over(time.monotonic()):
        if client is not None and client.returncode is not None:
            await asyncio.sleep(LAST_WORDS_S)
            return True
        _say(link, judge.tick(time.monotonic()))
        await asyncio.sleep(TICK_S)
    return False


def _say(link: Link, messages: Sequence[Message]) -> None:
    for message in messages:
        with contextlib.suppress(LinkDown):  # the client sends again what was not answered
            link.publish(message)


@asynccontextmanager
async def _client(command: Sequence[str], url: str) -> AsyncIterator[asyncio.subprocess.Process | None]:
    if not command:
        yield None
        return
    client = await asyncio.create_subprocess_exec(*command, env={**os.environ, "MQTT_URL": url})
    try:
        yield client
    finally:
        if client.returncode is None:
            client.terminate()
            await client.wait()
