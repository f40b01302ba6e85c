"""What a live camera's flow does with pictures, without a broker."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from services.capture import live
from services.capture.flow_control import LiveWindow, RateLimit, SendSchedule
from services.capture.live import LatestPicture, LiveFlow, TimedPicture
from services.capture.metrics import Tally
from services.capture.stream.picture import JpegPicture

PICTURE = JpegPicture(b"a picture")


class Line:
    """An outlet that does nothing."""

    def on_change(self, then: Callable[[], None]) -> None:
        self.then = then

    def say(self, state: str) -> None:
        self.state = state


class Station:
    """A camera's flow with a clock of its own; what it lets through is sent at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, camera: str) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: self.now_s, time=lambda: 1e9))
        self.window = LiveWindow[TimedPicture](4, 2.0)
        self.schedule = SendSchedule()
        self.tally = Tally(camera)
        line: Any = Line()
        no_encoder: Any = None
        self.flow = LiveFlow(
            line,
            self.window,
            rate=RateLimit(None),
            schedule=self.schedule,
            encoder=no_encoder,
            tally=self.tally,
            latest=LatestPicture(),
        )

    async def picture(self, after_s: float) -> float:
        self.now_s += after_s
        return await self.flow.on_picture(PICTURE)

    def send(self) -> int | None:
        taken = self.window.take(self.now_s)
        if taken is None:
            return None
        self.schedule.sent(taken[1].came_s)
        return taken[0]

    def answer(self, sequence: int, next_s: float) -> None:
        self.window.answer(sequence)
        self.schedule.answered(sequence, next_s)

    @property
    def not_due(self) -> float:
        counted: float = self.tally.not_due._value.get()
        return counted


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Station:
    return Station(monkeypatch, request.node.name.replace("_", "-"))


async def test_nothing_is_left_unread_while_an_answer_may_ask_for_the_very_next_picture(
    station: Station,
) -> None:
    await station.picture(0.0)
    first = station.send()
    assert first is not None
    station.answer(first, 0.25)
    assert await station.picture(0.1) > 0
    await station.picture(0.15)
    second = station.send()
    assert second is not None
    assert await station.picture(0.03) == 0.0
    station.answer(second, 0.0)
    await station.picture(0.03)
    assert station.send() is not None


async def test_what_is_not_due_is_counted_and_does_not_wait(station: Station) -> None:
    await station.picture(0.0)
    first = station.send()
    assert first is not None
    station.answer(first, 0.25)
    for _ in range(5):
        await station.picture(0.033)
    assert station.not_due == 5
    assert station.send() is None


async def test_while_a_picture_waits_for_a_place_the_newest_takes_its_turn(station: Station) -> None:
    for _ in range(2):  # before the first answer one place is all there is
        await station.picture(0.0)
        station.send()
    station.schedule.answered(0, 1.0)
    await station.picture(0.01)
    assert station.window.is_waited_in
    station.answer(0, 1.0)
    taken = station.window.take(station.now_s)
    assert taken is not None
    assert taken[1].came_s == station.now_s
