import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import structlog

from services.common.errors import SetupError
from services.detect import models
from services.detect.boxes import Detections
from services.detect.haar import Haar
from services.detect.pictures import Picture
from services.detect.settings import DetectSettings
from services.detect.yunet import open_yunet

log = structlog.get_logger()


class Detector(Protocol):
    """Finds faces; may be called from several threads at once."""

    @property
    def kind(self) -> str:
        """Which of the detectors it is: `yunet` or `haar`."""

    @property
    def name(self) -> str:
        """What faces say of where they come from: `yunet_n`, `haar`, ..."""

    @property
    def provider(self) -> str:
        """What it runs on: `cpu`, `cuda`, `tensorrt`."""

    def detect(self, picture: Picture) -> Detections:
        """Return the faces in a picture, best first, in its pixels."""


@contextlib.contextmanager
def open_detector(settings: DetectSettings) -> Iterator[Detector]:
    """Open the detector that the settings ask for; may download its model.

    Raises:
        SetupError: `yunet` was asked for and cannot be had, or the settings name what is not there.
    """
    located = None if settings.detector == "haar" else _locate(settings)
    if located is None:
        yield Haar(settings.max_faces)
        return
    name, path = located
    with open_yunet(
        path,
        name,
        settings.providers,
        models.cache_folder(),
        threshold=settings.score_threshold,
        most=settings.max_faces,
    ) as detector:
        yield detector


def _locate(settings: DetectSettings) -> tuple[str, Path] | None:
    """Return the model's name and file; nothing if Haar shall take its place."""
    try:
        return models.locate(settings.model, settings.model_dir)
    except models.ModelUnavailable as error:
        if settings.detector == "yunet":
            raise SetupError(f"{error}; {_ADVICE}") from error
        log.warning("detect.fallback_to_haar", problem=str(error), advice=_ADVICE)
        return None


_ADVICE = (
    "run `faceferry models fetch` where there is internet, or put the file into a folder and name that in "
    "FACEFERRY_MODEL_DIR, or choose FACEFERRY_DETECTOR=haar, which needs no model and sees less"
)
