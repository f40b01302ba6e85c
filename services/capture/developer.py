import asyncio
from concurrent.futures import Executor

import structlog

from services.capture.fit import Fit
from services.capture.stream.pictures import Jpeg, Picture
from services.common.wire.scope import Mask

log = structlog.get_logger()


class Developer:
    """Makes a camera's pictures JPEGs that the broker takes, off the event loop.

    Args:
        camera: its name, for the log.
        quality: of JPEG that is encoded here, 1 to 100.
        threads: where to encode.
        mask: what is made black in each picture, for those who are not to see it.
    """

    def __init__(self, camera: str, quality: int, threads: Executor, mask: Mask = ()) -> None:
        self._mask = mask
        self._camera = camera
        self._quality = quality
        self._fit = Fit()
        self._threads = threads

    async def develop(self, picture: Picture, limit_bytes: int) -> bytes:
        """Return a picture as JPEG of at most `limit_bytes`; a JPEG that is small enough stays as it is.

        Raises:
            Refused: `too_large` or `not_a_jpeg`.
        """
        loop = asyncio.get_running_loop()
        if self._mask:
            from services.capture.encoding import encode_hidden  # noqa: PLC0415 - brings numpy

            picture = await loop.run_in_executor(
                self._threads, encode_hidden, picture, self._quality, self._mask
            )
        level = self._fit.level
        if isinstance(picture, Jpeg) and level.is_untouched and len(picture.data) <= limit_bytes:
            return picture.data
        from services.capture.encoding import encode_within  # noqa: PLC0415 - brings numpy, see `pictures`

        jpeg = await loop.run_in_executor(
            self._threads, encode_within, picture, self._quality, self._fit, limit_bytes
        )
        if self._fit.level != level:
            self._tell(limit_bytes)
        return jpeg

    def _tell(self, limit_bytes: int) -> None:
        level = self._fit.level
        log.warning(
            "capture.quality_changed",
            camera=self._camera,
            quality="as it was" if level.quality is None else min(level.quality, self._quality),
            reduction=level.reduction,
            limit_bytes=limit_bytes,
        )
