"""Pictures to JPEGs that are small enough for the broker, in worker threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import structlog

from services.capture.stream.picture import JpegPicture, Picture
from services.common.errors import Refused
from services.common.wire.scope import Mask

CALM_FRAMES = 300
"""So many frames in a row of less than half the limit let the quality go up a step."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class QualityLevel:
    """How a frame is encoded.

    Attributes:
        quality: the best JPEG quality that is allowed, 1 to 100; None: as configured, and a JPEG stays as its
            camera made it.
        reduction: what the sides are divided by: 1, 2, 4 or 8, which libjpeg does while it decodes.
    """

    quality: int | None = None
    reduction: int = 1

    @property
    def is_untouched(self) -> bool:
        """Whether a JPEG stays as its camera made it."""
        return self.quality is None


LEVELS = (
    QualityLevel(),
    *(QualityLevel(quality) for quality in (70, 50, 35)),
    *(QualityLevel(60, reduction) for reduction in (2, 4, 8)),
)


class QualityControl:
    """Steps down through `LEVELS` when a frame is too large for a packet, and up after `CALM_FRAMES`."""

    def __init__(self) -> None:
        self._step = 0
        self._calm = 0

    @property
    def level(self) -> QualityLevel:
        """How to encode the next frame."""
        return LEVELS[self._step]

    def step_down(self) -> bool:
        """Go one level down, because a frame was too large; return False at the lowest."""
        self._calm = 0
        if self._step + 1 == len(LEVELS):
            return False
        self._step += 1
        return True

    def note(self, size_bytes: int, limit_bytes: int) -> None:
        """Note the size of a frame within the limit; goes one level up after `CALM_FRAMES` small ones."""
        self._calm = self._calm + 1 if size_bytes * 2 < limit_bytes else 0
        if self._step > 0 and self._calm >= CALM_FRAMES:
            self._calm = 0
            self._step -= 1


def encode_within(
    picture: Picture, quality: int, control: QualityControl, limit_bytes: int, mask: Mask = ()
) -> bytes:
    """Return a picture as JPEG of at most `limit_bytes`, stepping down as far as that takes. Blocks.

    Args:
        picture: what came from the camera.
        quality: of JPEG that is encoded here, 1 to 100.
        control: the level to begin with; left at the one that was good enough.
        limit_bytes: how large it may be.
        mask: the regions that are made black.

    Raises:
        Refused: `too_large`: even the worst is larger; `not_a_jpeg`: what the camera sent cannot be decoded.
    """
    from services.capture import turbojpeg  # noqa: PLC0415 - brings numpy, see `picture`

    if mask:
        picture = turbojpeg.encode_masked(picture, quality, mask)
    while len(data := _encode_at(control.level, picture, quality, turbojpeg.encode)) > limit_bytes:
        if not control.step_down():
            raise Refused("too_large", f"{len(data)} bytes, {limit_bytes} allowed")
    control.note(len(data), limit_bytes)
    return data


def _encode_at(
    level: QualityLevel, picture: Picture, quality: int, encode: Callable[[Picture, int, int], bytes]
) -> bytes:
    if level.is_untouched and isinstance(picture, JpegPicture):
        return picture.data
    best = quality if level.quality is None else min(quality, level.quality)
    return encode(picture, best, level.reduction)


class JpegEncoder:
    """Makes a camera's pictures JPEGs that are small enough, in worker threads.

    Args:
        camera: its name, for the log.
        quality: of JPEG that is encoded here, 1 to 100.
        threads: where to encode.
        mask: the regions that are made black in each picture.

    Attributes:
        is_pass_through: whether a JPEG that is small enough needs no encoder, see `to_jpeg`.
    """

    def __init__(self, camera: str, quality: int, threads: Executor, mask: Mask = ()) -> None:
        self.is_pass_through = not mask
        self._mask = mask
        self._camera = camera
        self._quality = quality
        self._control = QualityControl()
        self._threads = threads

    async def encode(self, picture: Picture, limit_bytes: int) -> bytes:
        """Return a picture as JPEG of at most `limit_bytes`.

        Raises:
            Refused: `too_large` or `not_a_jpeg`.
        """
        level = self._control.level
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, encode_within, picture, self._quality, self._control, limit_bytes, self._mask
            )
        finally:  # also where even the worst was too large
            if self._control.level != level:
                self._note_change(limit_bytes)

    def _note_change(self, limit_bytes: int) -> None:
        level = self._control.level
        self.is_pass_through = level.is_untouched and not self._mask
        log.warning(
            "capture.quality_changed",
            camera=self._camera,
            quality="as it was" if level.quality is None else min(level.quality, self._quality),
            reduction=level.reduction,
            limit_bytes=limit_bytes,
        )
