"""A live camera's flow: its newest picture goes to detect, the others are dropped and counted."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.capture.clock import is_synchronised
from services.capture.encoder import JpegEncoder
from services.capture.flow_control import LiveWindow, RateLimit, SendSchedule
from services.capture.metrics import Tally
from services.capture.outlet import Outlet
from services.capture.stream.picture import JpegPicture, Picture
from services.common.errors import Refused
from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.tracing import begin
from services.common.wire import times
from services.common.wire.frames import Frame, encode_frame
from services.common.wire.outlines import Outlines
from services.common.wire.scope import WHOLE, Scope

_MOST_DELAY_S = 10.0
"""A picture whose source says that it is older than this gets the time at which it came."""


@dataclass(frozen=True, slots=True)
class TimedPicture:
    """A picture and its times.

    Attributes:
        picture: as it came.
        time: when it was taken, UTC.
        came_s: when it came here, by the steady clock, in seconds.
    """

    picture: Picture
    time: datetime
    came_s: float


class LatestPicture:
    """A camera's newest picture, for viewers: each is here from when it comes until the next does."""

    def __init__(self) -> None:
        self._picture: Picture | None = None
        self._came_s = -math.inf
        self._arrived = asyncio.Event()
        self._waiting = 0

    @property
    def is_awaited(self) -> bool:
        """Whether a viewer waits for the next picture."""
        return self._waiting > 0

    def put(self, picture: Picture, came_s: float) -> None:
        """Take a picture that came at `came_s` of the steady clock, in the place of the one before."""
        self._picture, self._came_s = picture, came_s
        if self._waiting:
            self._arrived.set()
            self._arrived = asyncio.Event()

    async def next(self, *, after: Picture | None = None, since_s: float = -math.inf) -> Picture:
        """Return the newest picture as soon as it is not `after`, and did not come before `since_s`."""
        self._waiting += 1
        try:
            while self._picture is None or self._picture is after or self._came_s < since_s:
                await self._arrived.wait()
        finally:
            self._waiting -= 1
        return self._picture


class ClockCheck:
    """Remembers for a while what the kernel says of the clock: frames ask more often than it changes."""

    def __init__(self, ask: Callable[[], bool] = is_synchronised, keep_s: float = 5.0) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._asked_s = float("-inf")
        self._answer = True

    def is_synchronised(self, now_s: float) -> bool:
        """Say whether the clock is right, as far as is known; `now_s` is of a steady clock."""
        if now_s - self._asked_s >= self._keep_s:
            self._asked_s = now_s
            self._answer = self._ask()
        return self._answer


class LiveFlow:
    """Hands a live camera's newest frames to detect, and drops what detect has no time for.

    Args:
        outlet: where frames are published.
        window: limits how many are unanswered.
        rate: the user's limit of pictures a second.
        schedule: knows when the next picture is worth sending.
        encoder: for pictures that have to be encoded.
        tally: counts.
        scope: which part of the pictures, and which faces, are looked at; sent with each frame.
        latest: where each picture is kept for viewers.
        on_seen: called with where faces are in the frame that was answered last; None: nowhere.
    """

    def __init__(
        self,
        outlet: Outlet,
        window: LiveWindow[TimedPicture],
        *,
        rate: RateLimit,
        schedule: SendSchedule,
        encoder: JpegEncoder,
        tally: Tally,
        latest: LatestPicture,
        scope: Scope = WHOLE,
        on_seen: Callable[[Outlines | None], None] = lambda _seen: None,
    ) -> None:
        self._latest = latest
        self._on_seen = on_seen
        self._scope = scope
        self._outlet = outlet
        self._window = window
        self._rate = rate
        self._schedule = schedule
        self._encoder = encoder
        self._tally = tally
        self._clock = ClockCheck()
        self._wake = asyncio.Event()
        outlet.on_change(self._link_changed)

    async def on_picture(self, picture: Picture) -> float:
        """Take a picture, never wait; return for how many seconds no other is worth reading."""
        came_s = time.monotonic()
        self._outlet.say("online")
        self._latest.put(picture, came_s)
        self._tally.frames.inc()
        if not self._rate.admits(came_s):
            self._tally.drop("rate_limit")
            return 0.0
        # While a picture waits for a place the newest replaces it, or an old one would go out.
        if not self._schedule.is_due(came_s) and not self._window.is_waited_in:
            self._tally.not_due.inc()
            # The answer to a frame in flight may ask for the very next picture, and viewers want each.
            is_next_wanted = self._window.in_flight or self._latest.is_awaited
            return 0.0 if is_next_wanted else self._schedule.idle_s(came_s)
        taken_s = _taken_unix_s(picture, time.time())
        if self._window.offer(TimedPicture(picture, times.from_unix_s(taken_s), came_s)):
            self._tally.drop("replaced")
        self._wake.set()
        return 0.0

    async def receive(self) -> None:
        """Take answers and free the places of their frames, for ever."""
        async for done in self._outlet.answers():
            is_awaited = self._window.answer(done.sequence)
            if is_awaited and done.dropped is None:
                self._schedule.answered(done.sequence, done.next_s)
                self._on_seen(done.outlines)
            self._wake.set()

    async def send(self) -> None:
        """Send frames as their places become free, for ever."""
        while True:
            self._wake.clear()
            if late := self._window.expire(time.monotonic()):
                self._tally.drop("unanswered", late)
                self._schedule.forget()
            while self._outlet.is_up and (taken := self._window.take(time.monotonic())) is not None:
                self._schedule.sent(taken[1].came_s)
                await self._send_one(*taken)
            self._tally.in_flight.set(self._window.in_flight)
            await wait_until(self._wake, self._window.next_deadline_s)

    def _link_changed(self) -> None:
        """Give up the frames in flight, which are lost with the connection."""
        self._tally.drop("link_lost", self._window.lose())
        self._schedule.forget()
        self._wake.set()

    async def _send_one(self, sequence: int, timed: TimedPicture) -> None:
        taken_s = timed.time.timestamp()
        span = begin("capture", start_s=taken_s, source=str(self._outlet.source), frame=sequence)
        problem = None
        try:
            jpeg = await to_jpeg(timed.picture, self._encoder, self._outlet.max_frame_bytes)
            frame = self._frame(sequence, timed.time, jpeg, span.traceparent)
            self._outlet.publish(encode_frame(frame))
        except Refused as error:
            problem = error.reason
        except PacketTooLarge:
            problem = "too_large"
        except LinkDown:
            problem = "link_lost"
        if problem is not None:
            self._give_up(sequence, problem)
        span.end(problem)

    def _give_up(self, sequence: int, reason: str) -> None:
        if self._window.release(sequence):
            self._tally.drop(reason)

    def _frame(self, sequence: int, taken: datetime, jpeg: bytes, traceparent: str | None) -> Frame:
        is_synchronised = self._clock.is_synchronised(time.monotonic())
        return Frame(
            self._outlet.source,
            sequence,
            taken,
            jpeg,
            is_clock_synchronised=is_synchronised,
            scope=self._scope,
            traceparent=traceparent,
        )


async def wait_until(event: asyncio.Event, deadline_s: float | None) -> None:
    """Wait for an event, or until a time of the steady clock; None: for the event alone."""
    try:
        async with asyncio.timeout(None if deadline_s is None else max(0.0, deadline_s - time.monotonic())):
            await event.wait()
    except TimeoutError:
        return


def _taken_unix_s(picture: Picture, now_s: float) -> float:
    """Return when a picture was taken: the source's time if it is at most `_MOST_DELAY_S` old, else now."""
    taken_s = picture.taken_unix_s if isinstance(picture, JpegPicture) else None
    is_plausible = taken_s is not None and 0 <= now_s - taken_s <= _MOST_DELAY_S
    return taken_s if taken_s is not None and is_plausible else now_s


async def to_jpeg(picture: Picture, encoder: JpegEncoder, limit_bytes: int) -> bytes:
    """Return a picture as JPEG of at most `limit_bytes`; a JPEG that is small enough stays as it came.

    Raises:
        Refused: `too_large` or `not_a_jpeg`.
    """
    if encoder.is_pass_through and isinstance(picture, JpegPicture) and len(picture.data) <= limit_bytes:
        return picture.data
    return await encoder.encode(picture, limit_bytes)
