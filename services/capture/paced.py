"""A recording's flow: each frame goes to detect, and again, until its faces are receipted."""

import asyncio
import time
from collections.abc import Callable

from services.capture.encoder import JpegEncoder
from services.capture.flow_control import PacedWindow
from services.capture.live import LatestPicture, to_jpeg, wait_until
from services.capture.metrics import Tally
from services.capture.outlet import Outlet
from services.capture.playback_journal import PlaybackJournal
from services.capture.source.recording import Recording
from services.capture.source.watch import Ending
from services.capture.stream.picture import Picture
from services.common.errors import Refused
from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.tracing import begin
from services.common.wire.frames import PASSING, Done, Frame, encode_frame
from services.common.wire.message import Message
from services.common.wire.scope import WHOLE, Scope


class PacedFlow:
    """Hands a recording's frames to detect as fast as it answers, and leaves none without an answer.

    Args:
        outlet: where frames are published.
        recording: knows when each frame was taken.
        fps: frames for each second of the recording, at most; None: all.
        window: keeps the unanswered frames.
        encoder: for pictures that have to be encoded.
        tally: counts.
        journal: where answers are noted.
        latest: where each picture is kept for viewers.
        scope: which part of the pictures, and which faces, are looked at; sent with each frame.
    """

    def __init__(
        self,
        outlet: Outlet,
        recording: Recording,
        *,
        fps: float | None,
        window: PacedWindow,
        encoder: JpegEncoder,
        tally: Tally,
        journal: PlaybackJournal,
        latest: LatestPicture,
        scope: Scope = WHOLE,
    ) -> None:
        self._latest = latest
        self._scope = scope
        self._outlet = outlet
        self._recording = recording
        self._chosen = recording.chosen(fps) if fps else None
        self._window = window
        self._encoder = encoder
        self._tally = tally
        self._journal = journal
        self._read = 0
        self._stuck_at = 0
        self._handled = 0
        self._noted = 0
        self._sent: int | None = None
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        outlet.on_change(self._link_changed)

    def start(self) -> None:
        """Note in the journal how many frames will be sent."""
        chosen = self._recording.media_s if self._chosen is None else self._chosen
        self._journal.length(self._outlet.source.camera, len(chosen))

    def is_read(self, ending: Ending) -> bool:
        """Say whether the file has been read to its end; if not, it is read from its start again.

        A file that ends twice with an error at the same frame holds no further frames.
        """
        is_stuck = ending.status is not None and self._read > 0 and self._read == self._stuck_at
        self._stuck_at, self._read = self._read, 0
        return is_stuck or (ending.status == 0 and ending.pictures > 0)

    async def on_picture(self, picture: Picture) -> float:
        """Take the file's next picture, wait for a place for it; return 0: each is worth reading."""
        self._outlet.say("online")
        self._latest.put(picture, time.monotonic())
        number, self._read = self._read, self._read + 1
        if number >= self._handled:
            await self._handle(number, picture)
        return 0.0

    async def _handle(self, number: int, picture: Picture) -> None:
        self._tally.frames.inc()
        if self._chosen is None or number in self._chosen:
            await self._until(lambda: self._outlet.is_up and not self._window.is_full)
            await self._add(number, picture)
        self._handled = number + 1

    async def finish(self) -> None:
        """Wait for the last answer, and note in the journal that it came."""
        await self._until(lambda: self._window.is_empty)
        self._journal.finished(self._outlet.source.camera, self._noted)

    async def receive(self) -> None:
        """Take answers and release their frames, for ever."""
        async for done in self._outlet.answers():
            if done.dropped in PASSING:
                self._window.reject(done.sequence, time.monotonic())
            elif self._window.answer(done.sequence):
                self._note(done)
            self._announce()

    async def send(self) -> None:
        """Send frames, and send them again, for ever."""
        while True:
            self._wake.clear()
            if self._outlet.is_up:
                for message in self._window.take_due(time.monotonic()):
                    self._send_one(message)
            self._tally.in_flight.set(self._window.in_flight)
            await wait_until(self._wake, self._window.next_due_s if self._outlet.is_up else None)

    async def _add(self, number: int, picture: Picture) -> None:
        try:
            jpeg = await to_jpeg(picture, self._encoder, self._outlet.max_frame_bytes)
        except Refused as error:
            self._note(Done(self._outlet.source, number, dropped=error.reason))
            return
        # From now on, not from the frame's own time, which is long ago.
        span = begin("capture", source=str(self._outlet.source), frame=number)
        frame = Frame(
            self._outlet.source,
            number,
            self._recording.time(number),
            jpeg,
            paced=True,
            after=self._sent,
            scope=self._scope,
            traceparent=span.traceparent,
        )
        span.end()
        self._sent = number
        self._window.add(number, encode_frame(frame), time.monotonic())
        self._announce()

    def _note(self, done: Done) -> None:
        camera = self._outlet.source.camera
        self._noted += 1
        if done.dropped is None:
            self._journal.answer(camera, done.sequence, done.faces)
        else:
            self._tally.drop(done.dropped)
            self._journal.dropped(camera, done.sequence, done.dropped)

    def _send_one(self, message: Message) -> None:
        try:
            self._outlet.publish(message)
        except LinkDown:
            return  # all are due again when the link is back
        except PacketTooLarge:
            # The broker takes less since it is back. The frame stays here, and due.
            self._tally.drop("too_large")

    def _link_changed(self) -> None:
        """Have all frames in flight sent again: they are lost with the connection."""
        self._window.make_due(time.monotonic())
        self._announce()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._moved.clear()
            await self._moved.wait()

    def _announce(self) -> None:
        self._wake.set()
        self._moved.set()
