"""Whether a camera can be opened, checked before anything is started."""

import asyncio
import os
from pathlib import Path

from services.capture.cameras import TOPICS, Camera
from services.capture.metrics import Tally
from services.capture.source.child import CameraUnavailable
from services.capture.source.facts import SourceFacts
from services.capture.source.ffmpeg import find_ffmpeg, named_in
from services.capture.source.pipe import Timeouts
from services.capture.source.program import CameraProgram
from services.capture.source.recording import survey
from services.capture.source.redaction import redact, shown
from services.capture.source.watch import Ending
from services.capture.stream.picture import Picture
from services.capture.subscription import Subscription
from services.capture.topic import parse_topic
from services.common.errors import SetupError
from services.common.mqtt.broker import Broker

TIMEOUT_S = 10.0

_ADVICE = {
    "file": "name a video file that ffmpeg can play",
    "v4l2": "`faceferry cameras` lists the cameras of this machine",
    "rtsp": "is the address right, the camera on, and are user and password those of the camera?",
    "rtsps": "is the address right, the camera on, and are user and password those of the camera?",
    "http": "does the address show a moving picture in a browser?",
    "mqtt": "are host, user and password right, and may the user read that topic?",
    "mqtts": "are host, user and password right, and may the user read that topic?",
    "https": "does the address show a moving picture in a browser?",
    "csi": "does `gst-launch-1.0 nvarguscamerasrc ! fakesink` work?",
    "rpicam": "does `rpicam-hello` work?",
    "exec": "the command has to write multipart JPEG to its standard output (or ?format=jpeg, ?format=y4m)",
    "test": "is this ffmpeg a complete one?",
}


async def check_source(camera: Camera, *, ffmpeg: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
    """Return if a camera can be opened and delivers a picture; if it is a topic, if it can be subscribed to.

    Args:
        camera: which one.
        ffmpeg: the program to use; None: the one that capture will use, see `choose_ffmpeg`.
        timeout_s: how long it may take, in seconds.

    Raises:
        SetupError: it cannot; one line that says why and what to do, without credentials.
    """
    if camera.scheme in TOPICS:
        await _check_topic(camera, timeout_s)
        return
    facts = SourceFacts(ffmpeg=await asyncio.to_thread(find_ffmpeg, ffmpeg or named_in(os.environ)))
    try:
        if camera.scheme == "file":
            await survey(facts.ffmpeg, Path(camera.place))
            return
        program = CameraProgram(camera, facts, Timeouts(timeout_s, timeout_s), Tally(camera.name))
        ending = await _until_first_picture(program)
        if ending is not None and program.has_another_way:
            ending = await _until_first_picture(program)
    except CameraUnavailable as error:
        raise SetupError(_line(camera, str(error))) from error
    if ending is not None:
        silence = f"no picture within {timeout_s:g} s" if ending.reason == "silent" else ""
        problem = silence or ending.message or f"its program ended with {ending.status}"
        raise SetupError(_line(camera, problem))


async def _check_topic(camera: Camera, timeout_s: float) -> None:
    """Return if the broker grants the subscription: pictures may come only now and then."""
    if not parse_topic(camera.name, camera.url).broker:
        return  # the broker on this device, which may not be started yet
    tally = Tally(camera.name)
    subscription = Subscription(camera, "check", Broker(""), start_timeout_s=timeout_s, tally=tally)
    try:
        await subscription.check()
    except CameraUnavailable as error:
        raise SetupError(_line(camera, str(error))) from error


async def _until_first_picture(program: CameraProgram) -> Ending | None:
    """Return None if a picture came, else how the program ended."""
    seen = asyncio.Event()

    async def on_picture(_picture: Picture) -> float:
        seen.set()
        await asyncio.Event().wait()  # until cancelled: no other is wanted
        return 0.0

    run = asyncio.create_task(program.run(on_picture), name="capture.check")
    first = asyncio.create_task(seen.wait(), name="capture.check_seen")
    try:
        await asyncio.wait({run, first}, return_when=asyncio.FIRST_COMPLETED)
        return None if seen.is_set() else await run
    finally:
        run.cancel()
        first.cancel()
        await asyncio.wait({run, first})


def _line(camera: Camera, problem: str) -> str:
    where = redact(shown(camera.url))
    # A file's name may hold a line end.
    why = redact(problem.rstrip("."), camera.url)
    return f"camera {camera.name!r} ({where}) cannot be opened: {why}; {_ADVICE[camera.scheme]}"
