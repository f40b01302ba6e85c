"""Which modules of capture a frame crosses on its way from the pipe of a camera's program to the broker.

Not counted is what dataclasses generate: a picture is what goes that way, not where it goes through.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

from services import capture
from services.capture.encoder import JpegEncoder
from services.capture.flow_control import LiveWindow, RateLimit, SendSchedule
from services.capture.live import LatestPicture, LiveFlow, TimedPicture
from services.capture.metrics import Tally
from services.capture.outlet import PACKET_MARGIN_BYTES, Outlet
from services.capture.source.pipe import Pipe, PipeReader, Timeouts
from services.capture.stream.multipart import MultipartReader
from services.common.mqtt import Broker
from services.common.wire.message import Message
from services.common.wire.topics import Source
from tests.storing import jpeg
from tests.tracing import traced

PATIENCE_S = 20
FOLDER = Path(capture.__file__).parent


class Wire:
    """A connection to no broker, which takes whatever is published."""

    def __init__(self) -> None:
        self.is_up = True
        self.max_packet_bytes = 1 << 20
        self.published: asyncio.Queue[Message] = asyncio.Queue()

    def publish(self, message: Message) -> None:
        if message.topic.endswith("/frame"):
            self.published.put_nowait(message)


class Camera:
    """A live camera whose program writes JPEGs as multipart, which are passed through as they are."""

    def __init__(self, name: str, threads: ThreadPoolExecutor) -> None:
        tally = Tally(name)
        outlet = Outlet(Broker("mqtt://nowhere"), Source("porch", name), tally)
        self.wire = Wire()
        outlet._link = cast("Any", self.wire)
        self.window = LiveWindow[TimedPicture](4, PATIENCE_S)
        self.flow = LiveFlow(
            outlet,
            self.window,
            rate=RateLimit(None),
            schedule=SendSchedule(),
            encoder=JpegEncoder(name, 85, threads),
            tally=tally,
            latest=LatestPicture(),
        )
        self.pipe = Pipe()
        timeouts = Timeouts(PATIENCE_S, PATIENCE_S)
        self.reader = PipeReader(self.pipe, MultipartReader(), self.flow.on_picture, timeouts, tally)

    async def deliver(self, picture: bytes) -> bytes:
        """Have the program write a picture; return the frame that goes to the broker, once it does."""
        head = b"--ffmpeg\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
        os.write(self.pipe.write, head + picture + b"\r\n")
        async with asyncio.timeout(PATIENCE_S):
            message = await self.wire.published.get()
        self.window.answer(int(message.correlation or b""))
        return message.payload


@asynccontextmanager
async def running(name: str) -> AsyncIterator[Camera]:
    with ThreadPoolExecutor(1) as threads:
        camera = Camera(name, threads)
        tasks = [asyncio.create_task(camera.reader.run()), asyncio.create_task(camera.flow.send())]
        try:
            yield camera
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            camera.pipe.close()


@contextmanager
def crossed() -> Iterator[set[str]]:
    """Note which modules of capture have code that runs, in this thread and in those that it starts."""
    found: set[str] = set()

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(FOLDER):
            found.add(str(path.relative_to(FOLDER).with_suffix("")))

    with traced(note):
        yield found


async def test_a_frame_that_is_passed_through_crosses_five_modules_of_capture_at_most() -> None:
    async with running("crossed") as camera:
        assert await camera.deliver(jpeg(1)) == jpeg(1)  # what is done once is done
        with crossed() as modules:
            assert await camera.deliver(jpeg(2)) == jpeg(2)
    assert modules == {"source/pipe", "stream/multipart", "live", "flow_control", "outlet"}


async def test_what_is_too_large_for_the_broker_crosses_the_encoder_besides() -> None:
    """Or the trace would see nothing of what stands in a frame's way."""
    async with running("besides") as camera:
        await camera.deliver(jpeg(1))
        camera.wire.max_packet_bytes = PACKET_MARGIN_BYTES + len(jpeg(2)) - 1
        with crossed() as modules:
            assert len(await camera.deliver(jpeg(2))) < len(jpeg(2))
    assert {"encoder", "turbojpeg"} <= modules
