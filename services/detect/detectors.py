"""Opens the detector that the settings ask for, or the best that can be had."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import structlog

from services.common.errors import SetupError
from services.detect import detector_choice, metrics, models
from services.detect.boxes import Detections
from services.detect.centerface import CENTERFACE
from services.detect.codec import BgrImage
from services.detect.haar import Haar
from services.detect.network import Family, open_network
from services.detect.settings import DetectSettings
from services.detect.yunet import YUNET

log = structlog.get_logger()


class Detector(Protocol):
    """Finds faces in pictures; may be called from several threads at once."""

    @property
    def kind(self) -> str:
        """Which of the detectors it is: `yunet`, `centerface` or `haar`."""

    @property
    def name(self) -> str:
        """Its model, for the faces' `detector` property: `yunet_n`, `centerface`, `haar`, ..."""

    @property
    def provider(self) -> str:
        """The execution provider that it runs on: `cpu`, `cuda`, `tensorrt`."""

    def detect(self, picture: BgrImage) -> Detections:
        """Return the faces in a picture, best first, in its pixels.

        Args:
            picture: (H, W, 3) uint8, BGR, at the size at which to look for faces; not modified.
        """


@contextlib.contextmanager
def open_detector(settings: DetectSettings) -> Iterator[Detector]:
    """Open the detector that the settings ask for; may block to download its model.

    Raises:
        SetupError: a detector that is set by name cannot be had, or the settings name a model, file or
            provider that does not exist.
    """
    located = _locate(settings)
    if located is None:
        yield Haar(settings.max_faces)
        return
    family, name, path = located
    with open_network(
        family,
        path,
        name,
        settings.providers,
        models.cache_folder(),
        threshold=settings.score_threshold,
        most=settings.max_faces,
    ) as detector:
        yield detector


def _locate(settings: DetectSettings) -> tuple[Family, str, Path] | None:
    """Return the network to use, its model's name and its file, or None where Haar is to be used."""
    problems: list[str] = []
    for wanted in detector_choice.candidates(settings.detector, settings.model):
        try:
            name, path = models.locate(wanted, settings.model_dir)
        except models.ModelUnavailable as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("detect.fallback_to_centerface", problem=problems[0], advice=_ADVICE_FOR_YUNET)
        return (CENTERFACE if wanted == detector_choice.CENTERFACE else YUNET), name, path
    if settings.detector not in ("auto", detector_choice.HAAR):
        raise SetupError(f"{problems[0]}; {_ADVICE_WITHOUT}")
    if problems:
        log.warning("detect.fallback_to_haar", problem="; ".join(problems), advice=_ADVICE_FOR_BOTH)
    return None


_BY_HAND = "or put the file into a folder and name that in FACEFERRY_MODEL_DIR"
_ADVICE_WITHOUT = (
    f"run `faceferry models fetch` where there is internet, {_BY_HAND}, or choose FACEFERRY_DETECTOR=auto, "
    "which takes what can be had"
)
_ADVICE_FOR_YUNET = (
    "centerface finds most of what yunet finds, at four times the work; for yunet run "
    f"`faceferry models fetch yunet_n` where there is internet, {_BY_HAND}"
)
_ADVICE_FOR_BOTH = (
    "haar finds few of the faces; run `faceferry models fetch` where there is internet, or where pip finds "
    f"packages, {_BY_HAND}"
)


@contextlib.asynccontextmanager
async def opened(settings: DetectSettings) -> AsyncIterator[Detector]:
    """Open the detector in a thread, because its model may have to be downloaded; see `open_detector`."""
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
