"""Stages the street, films it, and has the real detector look at each frame."""

from collections.abc import Iterator
from pathlib import Path

from services.detect.detectors import Detector
from services.detect.settings import DetectSettings
from tests.rigs.clips import film
from tests.rigs.looks import script
from tests.rigs.looks.rehearsal import Moment
from tests.rigs.people.cast import gather, look, room
from tests.rigs.people.judge import whose
from tests.rigs.people.stage import Shot, stage
from tests.support import SHARED

CLIPS = SHARED / "data" / "video"
STREET_FPS = 25
SEED = 1


class Theatre:
    """Plays the street before a detector."""

    def __init__(self, detector: Detector, settings: DetectSettings) -> None:
        self._detector = detector
        self._settings = settings
        self._cast = gather(detector, settings, CLIPS)

    def film_street(self, codec: str) -> Path:
        """Return a clip of the street."""
        width, height = script.STREET
        title = f"noisy-street-{SEED}-{width}x{height}"
        return film(
            title,
            lambda: (shot.picture for shot in self._street()),
            f"{width}x{height}",
            codec,
            STREET_FPS,
        )

    def look_at_street(self) -> list[Moment]:
        """Return what is to be seen in each frame of the street."""
        return [self._moment(shot) for shot in self._street()]

    def _street(self) -> Iterator[Shot]:
        scene = script.street(SEED, len(self._cast))
        background = room(CLIPS, *script.STREET)
        return stage(scene, self._cast, background, STREET_FPS, script.STREET_S)

    def _moment(self, shot: Shot) -> Moment:
        view = look(self._detector, shot.picture, self._settings)
        return Moment(shot.at_s, view, tuple(whose(view.faces, shot.shown)))
