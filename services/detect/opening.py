import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from services.detect import metrics
from services.detect.detectors import Detector, open_detector
from services.detect.settings import DetectSettings

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def opened(settings: DetectSettings) -> AsyncIterator[Detector]:
    """Open the detector off the event loop: its model may have to be downloaded."""
    opening = open_detector(settings)
    detector = await asyncio.to_thread(opening.__enter__)
    try:
        metrics.DETECTOR.info(
            {"detector": detector.kind, "provider": detector.provider, "model": detector.name}
        )
        log.info("detect.ready", detector=detector.kind, provider=detector.provider, model=detector.name)
        yield detector
    finally:
        await asyncio.to_thread(opening.__exit__, None, None, None)
