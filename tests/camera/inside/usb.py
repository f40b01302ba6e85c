"""A USB camera whose other end is a program, and capture before it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.camera.machine import TOOL
from tests.capture_rig import CaptureProcess, Detector
from tests.support import eventually, running_broker

PATIENCE_S = 240.0
"""Everything takes twenty times as long in the machine as outside."""


class UsbCamera:
    """A camera on a USB bus; entering the context plugs it in.

    Args:
        modes: `mjpeg:640x480:30,15:FOLDER`, `yuyv:...`.
        port: the hub's.
        name: what it calls itself.
    """

    def __init__(self, *modes: str, port: int = 0, name: str = "Paper Camera") -> None:
        given = [word for mode in modes for word in ("--mode", mode)]
        self._argv = [sys.executable, "-S", "-E", str(TOOL / "usb_camera.py"), *given]
        self._argv += ["--port", str(port), "--name", name]
        self._process: asyncio.subprocess.Process | None = None
        self.device = f"/dev/v4l/by-id/usb-Faceferry_{name.replace(' ', '_')}_{1 + port:04}-video-index0"

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        await self.event("plugged")
        await self.there()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._tell("quit")
            await self._process.wait()

    async def there(self) -> None:
        """Wait until it has its name."""
        await eventually(lambda: Path(self.device).exists(), PATIENCE_S)

    async def gone(self) -> None:
        """Wait until its name is nobody's."""
        await eventually(lambda: not Path(self.device).is_symlink(), PATIENCE_S)

    async def plug(self) -> None:
        self._tell("plug")
        await self.event("plugged")

    async def unplug(self) -> None:
        self._tell("unplug")
        await self.event("unplugged")

    def freeze(self) -> None:
        """Hang: it is there, and gives no picture."""
        self._tell("freeze")

    def thaw(self) -> None:
        self._tell("thaw")

    async def event(self, kind: str) -> dict[str, Any]:
        """Return the next event of a kind."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self._process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                if told["event"] == kind:
                    return told
        raise RuntimeError("the camera's program has ended")

    def _tell(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())


class Stage:
    """Capture, and somebody who answers."""

    def __init__(self, capture: CaptureProcess, detector: Detector) -> None:
        self.capture = capture
        self.detector = detector

    async def more(self, camera: str, count: int = 1) -> None:
        """Wait until some more of a camera's frames have come."""
        more = self.detector.more_than(camera, self.detector.counts[camera] + count - 1)
        try:
            await eventually(more, PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"no frames of {camera}:\n{self.capture.log[-3000:]}") from None

    async def is_said(self, camera: str, state: str) -> None:
        """Wait until a camera's state is this."""
        await eventually(lambda: self.detector.states[camera][-1:] == [state], PATIENCE_S)

    async def logged(self, *words: str) -> None:
        """Wait until a line of the log holds all of these."""
        try:
            await eventually(lambda: self._has_line(words), PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"no line with {words}:\n{self.capture.log[-3000:]}") from None

    def _has_line(self, words: tuple[str, ...]) -> bool:
        return any(all(word in line for word in words) for line in self.capture.log.splitlines())

    def frames_since(self, camera: str, count: int) -> list[bytes]:
        """Return a camera's frames after the first so many."""
        came = self.detector.counts[camera] - count
        return [frame.jpeg for frame in self.detector.frames[camera][-came:]] if came > 0 else []


@asynccontextmanager
async def capturing(folder: Path, cameras: str, **settings: object) -> AsyncIterator[Stage]:
    """Run capture, with a broker and somebody who answers."""
    with running_broker(folder) as broker:
        async with Detector(broker.url) as detector:
            await detector.wait_up()
            capture = CaptureProcess(folder, broker.url, cameras, start_timeout_s=60, **settings)
            try:
                yield Stage(capture, detector)
            finally:
                capture.kill()
