"""Plays trials before a detector."""

from typing import TYPE_CHECKING

from services.detect.detectors import Detector
from services.detect.motion_gate import MotionGate
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from tests.detect_clips import read_clip
from tests.rigs.people.cast import CLIPS, ROOM, gather
from tests.rigs.recall.camera import Camera
from tests.rigs.recall.trials import trial
from tests.rigs.recall.watched import Outcome, watch
from tests.support import SHARED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.detect.codec import BgrImage


class Stage:
    """Plays trials before a detector.

    Args:
        detector: that looks.
        settings: of detect.
        by_parts: whether a look may cover parts.
    """

    def __init__(self, detector: Detector, settings: DetectSettings, *, by_parts: bool) -> None:
        folder = SHARED / "data" / "video"
        self._clips: Sequence[Sequence[BgrImage]] = [read_clip(folder / name) for name in (ROOM, *CLIPS)]
        self._cast = gather(detector, settings, folder)
        self._pipeline = Pipeline(detector, settings)
        self._by_parts = by_parts

    def play(self, number: int, seed: int) -> Outcome:
        """Return what became of a trial."""
        what = trial(number, seed, len(self._clips), len(self._cast))
        camera = Camera(what, self._clips[what.clip], self._cast[what.face])
        sometimes = MotionGate(self._pipeline, 1, by_parts=self._by_parts)
        return watch(what, camera, self._pipeline.look, sometimes.look)
