"""A process that is held up, by a model that it loads or a machine that is slow, blames no broker for it."""

import asyncio
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from services.common.mqtt import Broker, Link, endpoint, liveness, session
from services.common.mqtt.connection import Connection
from tests.support import MosquittoServer, eventually


@dataclass(frozen=True)
class Case:
    """How long the process is held up, and how long the other side may be silent."""

    held_up_s: float
    give_up_s: float
    keep_alive_s: int


class HoldUps:
    """Has the event loop held up while it handles a socket: next comes its clock, then only another socket.

    Args:
        seconds: how long, once the broker has answered.

    Attributes:
        count: how often it was.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.count = 0
        self._here, self._there = socket.socketpair()
        self._next: tuple[Connection, Callable[[], bool]] | None = None

    def ask(self, connection: Connection, is_answered: Callable[[], bool]) -> None:
        """Hold the loop up as soon as what is written now is."""
        self._next = connection, is_answered
        loop = asyncio.get_running_loop()
        loop.add_reader(self._here, self._hold_up)
        loop.call_soon(self._there.send, b"!")

    def close(self) -> None:
        self._here.close()
        self._there.close()

    def _hold_up(self) -> None:
        self._here.recv(100)
        connection, is_answered = self._next or pytest.fail("nobody asked")
        paho: Any = connection._client
        if paho.socket() is not None and not is_answered():
            self.count += 1
            select.select([paho.socket()], [], [], 10)
            time.sleep(self._seconds)


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[HoldUps]:
    """Have the process held up whenever it has asked whether the broker is there."""
    hold_ups = HoldUps(seconds)
    check_alive = Connection.check_alive

    def held_up_after_asking(self: Connection, *, is_asked: bool) -> None:
        before = self._question_s
        check_alive(self, is_asked=is_asked)
        if self._question_s not in (None, before) and self.is_alive:
            hold_ups.ask(self, lambda: not self._client._ping_t)

    monkeypatch.setattr(Connection, "check_alive", held_up_after_asking)
    yield hold_ups
    hold_ups.close()


async def asked_twice(url: str, hold_ups: HoldUps) -> None:
    """Have a link, and ask its broker whether it is there."""
    async with Link("held-up", Broker(url), identity="held-up", subscriptions=["a/b"]) as one:
        await one.wait_up()
        while hold_ups.count < 2:
            one.why_not_ready()
            await asyncio.sleep(0.1)
        await eventually(lambda: one.is_up)


@pytest.mark.parametrize("case", [Case(1.0, 0.5, 15), Case(2.4, 60.0, 2)], ids=["heartbeat", "keep_alive"])
def test_a_broker_that_has_answered_is_not_said_to_be_silent(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    monkeypatch.setattr(liveness, "ASK_AFTER_S", 0.02)
    monkeypatch.setattr(liveness, "GIVE_UP_S", case.give_up_s)
    monkeypatch.setattr(session, "KEEP_ALIVE_S", case.keep_alive_s)
    with (
        held_up(monkeypatch, case.held_up_s) as hold_ups,
        capture_logs() as lines,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(asked_twice(broker.url, hold_ups))
    assert [line for line in lines if line["event"] == "mqtt.link_down"] == []


async def up_once(url: str) -> None:
    async with Link("held-up", Broker(url), identity="held-up", subscriptions=["a/b"]) as one:
        await one.wait_up()


@pytest.mark.parametrize("asking", ["connect", "request_subscriptions"], ids=["CONNACK", "SUBACK"])
def test_a_broker_that_has_let_us_in_is_not_said_to_be_silent(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch, asking: str
) -> None:
    """On a slow machine a service still loads what it needs while the broker answers its first packets."""
    monkeypatch.setattr(endpoint, "FIRST_TIMEOUT_S", 1.0)
    hold_ups = HoldUps(1.2)
    ask, answer = getattr(Connection, asking), Connection._answer

    async def ask_a_slow_broker(self: Connection, *arguments: Any) -> Any:
        os.kill(broker.pid, signal.SIGSTOP)  # until we are held up, lest it be faster
        return await ask(self, *arguments)

    async def held_up_for_answer(self: Connection, wanted: asyncio.Future[Any]) -> Any:
        def is_answered() -> bool:
            os.kill(broker.pid, signal.SIGCONT)
            return wanted.done()

        hold_ups.ask(self, is_answered)
        return await answer(self, wanted)

    monkeypatch.setattr(Connection, asking, ask_a_slow_broker)
    monkeypatch.setattr(Connection, "_answer", held_up_for_answer)
    with capture_logs() as lines, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(up_once(broker.url))
    hold_ups.close()
    assert [line for line in lines if line["event"] == "mqtt.link_down"] == []
    assert hold_ups.count
