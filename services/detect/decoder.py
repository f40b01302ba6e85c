"""Has costly pictures decoded by a process that can be killed; see `decoder_process`."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import structlog

from services.common.errors import FaceferryError, Refused, is_reason
from services.common.wire.scope import WHOLE, Scope
from services.detect import decoder_protocol
from services.detect.boxes import Detections, Letterbox, Rectangle
from services.detect.codec import BgrImage
from services.detect.cutting import Crop, CropStyle
from services.detect.decoder_protocol import Header

START_S = 60.0
"""A small machine that is busy takes long to start Python."""

log = structlog.get_logger()

T = TypeVar("T")

# The process is dead, or was taken over by a malicious picture, and its reply makes no sense.
_NO_ANSWER = (EOFError, OSError, ValueError, TypeError, LookupError, ArithmeticError)


class DecoderUnavailable(FaceferryError):
    """The process cannot be started just now, whatever the picture."""


class ScaledFrame(NamedTuple):
    """A picture at the size that the detector takes.

    Attributes:
        letterbox: how it was scaled.
        scaled: (letterbox.height, letterbox.width, 3) uint8, BGR; read-only.
    """

    letterbox: Letterbox
    scaled: BgrImage


class Decoder:
    """Decodes one picture at a time in another process, within bounds of time and memory.

    The process starts with the first picture. If it is too slow or dies its picture is refused, and the next
    one gets a new process. Use it within `running`.

    Args:
        deadline_s: how many seconds one call may take once it has its turn.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._process: Process | None = None
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Decoder"]:
        """End the process when the context is left."""
        try:
            yield self
        finally:
            await self._end()

    async def look(self, jpeg: bytes, size_px: int, scope: Scope = WHOLE) -> ScaledFrame:
        """Return a picture at the size that the detector takes.

        Args:
            jpeg: the encoded picture.
            size_px: its long side for the detector; see `Letterbox.fit`.
            scope: the parts that are hidden, which are black in the result.

        Raises:
            Refused: it cannot be decoded, or not within bounds: `too_many_scans`, `too_much_to_decode`,
                `too_slow_to_decode`, `decoder_died`.
            DecoderUnavailable: the process cannot be started just now.
        """

        def read(header: Header, pixels: bytes) -> ScaledFrame:
            letterbox = Letterbox.fit(header["width"], header["height"], size_px)
            picture = np.frombuffer(pixels, np.uint8).reshape(letterbox.height, letterbox.width, 3)
            return ScaledFrame(letterbox, picture)

        return await self._ask({"do": "look", "size": size_px, "mask": scope.mask}, jpeg, read)

    async def cut(
        self, jpeg: bytes, found: Detections, style: CropStyle, scope: Scope = WHOLE
    ) -> list[Crop | None]:
        """Cut faces out of a picture.

        Args:
            jpeg: the encoded picture.
            found: the faces to cut, in pixels of the picture.
            style: how to cut and encode them.
            scope: as of `look`.

        Returns:
            the crops, in the order of `found`; None for one that lies beside the picture.

        Raises:
            Refused, DecoderUnavailable: as `look`.
        """
        question = {"do": "cut", "boxes": found.boxes.tolist(), "style": style, "mask": scope.mask}
        return await self._ask(question, jpeg, _read_cuts)

    async def _ask(self, question: Header, jpeg: bytes, read: Callable[[Header, bytes], T]) -> T:
        async with self._lock:
            return await self._ask_now(question, jpeg, read)

    async def _ask_now(self, question: Header, jpeg: bytes, read: Callable[[Header, bytes], T]) -> T:
        process = await self._started()
        try:
            async with asyncio.timeout(self._deadline_s):
                header, body = await _exchange(process, decoder_protocol.encode(question, jpeg))
            answer = None if "refused" in header else read(header, body)
        except BaseException as error:
            # When cancelled too: a reply that comes late would be taken for the next picture's.
            await self._end()
            if isinstance(error, TimeoutError):
                raise Refused("too_slow_to_decode", f"more than {self._deadline_s:g} s") from error
            if isinstance(error, _NO_ANSWER):
                raise Refused("decoder_died", f"status {process.returncode}") from error
            raise
        if answer is None:
            reason = header["refused"]
            raise Refused(reason if is_reason(reason) else "bad_image", str(header.get("detail"))[:120])
        return answer

    async def _started(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        command = [sys.executable, "-m", "services.detect.decoder_process", f"{self._deadline_s}"]
        try:
            async with asyncio.timeout(START_S):
                self._process = await asyncio.create_subprocess_exec(
                    *command, stdin=PIPE, stdout=PIPE, env=_environment()
                )
                await _exchange(self._process, [])
        except (EOFError, OSError, ValueError, TypeError) as error:
            await self._end()
            raise DecoderUnavailable(str(error) or type(error).__name__) from error
        log.info("detect.decoder_started", pid=self._process.pid)
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """Return the process's environment, without detect's own settings, which include passwords.

    It gets one thread, and so none of the memory that linear algebra libraries reserve for each core.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FACEFERRY_")}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


async def _exchange(process: Process, question: Sequence[bytes]) -> tuple[Header, bytes]:
    """Write a message, unless it is empty, and return the header and body of the next one read."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.writelines(question)
    await process.stdin.drain()
    header_bytes, body_bytes = decoder_protocol.read_lengths(
        await process.stdout.readexactly(decoder_protocol.LENGTHS.size)
    )
    header = decoder_protocol.read_header(await process.stdout.readexactly(header_bytes))
    return header, await process.stdout.readexactly(body_bytes)


def _read_cuts(header: Header, images: bytes) -> list[Crop | None]:
    cuts: list[Crop | None] = []
    start = 0
    for one in header["cuts"]:
        if one is None:
            cuts.append(None)
            continue
        box, crop, sharpness, content_type, size_bytes = one
        image, start = images[start : start + size_bytes], start + size_bytes
        cuts.append(Crop(Rectangle(*box), Rectangle(*crop), sharpness, content_type, image))
    return cuts
