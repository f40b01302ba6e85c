"""Runs a camera's source again and again, and tells the camera's state."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from services.capture.cameras import Camera
from services.capture.outlet import Outlet
from services.capture.source.child import CameraUnavailable
from services.capture.source.recording import Recording, survey
from services.capture.source.watch import Ending
from services.capture.stream.picture import OnPicture
from services.common.runtime.concurrency import Backoff

# Together with a program's start and a stream's first key frame, a camera that is back is seen within 5 s.
FIRST_PAUSE_S, MOST_PAUSE_S = 0.25, 2.0

log = structlog.get_logger()


class PictureSource(Protocol):
    """Where a camera's pictures come from: a program or a topic."""

    async def run(self, on_picture: OnPicture) -> Ending:
        """Hand on pictures until no more come; return why.

        Raises:
            CameraUnavailable: the camera's program cannot be started, or its broker cannot be reached.
        """


async def keep_running(
    source: PictureSource,
    outlet: Outlet,
    on_picture: OnPicture,
    is_over: Callable[[Ending], bool],
) -> None:
    """Run a camera's source again and again, with growing pauses, until it has come to its proper end.

    Args:
        source: where the camera's pictures come from.
        outlet: publishes the camera's state.
        on_picture: gets each picture, see `watch`, and says that the camera is online.
        is_over: says whether an ending was the proper one; a live camera has none.
    """
    backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
    told = ""
    while True:
        ending = await _run(source, on_picture)
        if is_over(ending):
            return
        outlet.say("stalled" if ending.reason == "stalled" else "offline", why=ending.reason)
        if ending.pictures:
            backoff.reset()
        if (tells := f"{ending.reason} {ending.message}") != told:
            told = tells
            log.warning(
                "capture.program_ended",
                camera=outlet.source.camera,
                reason=ending.reason,
                status=ending.status,
                frames=ending.pictures,
                last_words=ending.message,
            )
        await asyncio.sleep(backoff.next_s())


async def _run(source: PictureSource, on_picture: OnPicture) -> Ending:
    try:
        return await source.run(on_picture)
    except CameraUnavailable as error:
        return Ending("unavailable", None, 0, str(error))


async def keep_surveying(ffmpeg: str, camera: Camera, outlet: Outlet) -> Recording:
    """Return what a recording holds, however long it takes until it can be read.

    Args:
        ffmpeg: the program's path.
        camera: whose recording.
        outlet: publishes the camera's state meanwhile.
    """
    backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
    told = ""
    while True:
        try:
            return await survey(ffmpeg, Path(camera.place))
        except CameraUnavailable as error:
            if str(error) != told:
                told = str(error)
                log.warning("capture.file_unavailable", camera=camera.name, problem=told)
            outlet.say("offline", why="unavailable")
        await asyncio.sleep(backoff.next_s())
