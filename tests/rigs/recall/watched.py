"""A trial watched twice: each frame looked at, and as often and as much as detect does it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.capture.flow_control import SendSchedule
from services.common.runtime.shared_settings import DEFAULT_LOOKS_PER_S
from services.common.wire.frames import Frame
from services.common.wire.seen import question_about
from services.detect.look_interval import LastFaceTimes, LookSummary, next_look_s
from services.detect.pipeline import Look
from services.forward.visits.camera_visits import CameraVisits, VisitRules
from services.forward.visits.matching import Box, intersection_over_union
from tests.rigs.recall.camera import Camera
from tests.rigs.recall.trials import FRAMES_PER_S, Trial

LEAST_VISIT_S = 0.3
"""A visit that a look at each frame finds for so long has to be found."""
SEEN = 3
"""In so many frames, for one that has a face in it by chance is no visit."""
LATEST_S = 0.6
"""And so soon after it was found by that."""

_LEAST_OVERLAP = 0.25
_AFTER_S = 0.2
_ROUNDING_S = 1e-6

LookAt = Callable[[Frame], Look]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial.

    Attributes:
        trial: which.
        every_s: when the face was found by a look at each frame, first and last; nothing if never.
        times: in how many frames.
        found_s: when it was first found by the other.
    """

    trial: Trial
    every_s: tuple[float, float] | None
    times: int
    found_s: float | None

    @property
    def counts(self) -> bool:
        """Whether it is a visit that has to be found."""
        lasts_s = 0.0 if self.every_s is None else self.every_s[1] - self.every_s[0]
        return self.times >= SEEN and lasts_s >= LEAST_VISIT_S - _ROUNDING_S

    @property
    def late_s(self) -> float:
        """How much later it was found."""
        if self.every_s is None:
            return 0.0
        return math.inf if self.found_s is None else self.found_s - self.every_s[0]

    @property
    def is_missed(self) -> bool:
        """Whether it should have been found, or sooner."""
        return self.counts and self.late_s > LATEST_S + _ROUNDING_S


def watch(trial: Trial, camera: Camera, every: LookAt, sometimes: LookAt) -> Outcome:
    """Watch a trial twice.

    Args:
        trial: what happens.
        camera: what sees it.
        every: looks at the whole of each frame.
        sometimes: looks as detect does.
    """
    shown = range(math.ceil(trial.comes_s * FRAMES_PER_S), math.ceil(trial.goes_s * FRAMES_PER_S))
    seen = [number / FRAMES_PER_S for number in shown if _finds(every, camera, number)]
    found = next(
        (number / FRAMES_PER_S for number, is_found in _looks(trial, camera, sometimes) if is_found), None
    )
    return Outcome(trial, (seen[0], seen[-1]) if seen else None, len(seen), found)


def _looks(trial: Trial, camera: Camera, look_at: LookAt) -> Iterator[tuple[int, bool]]:
    """Yield the frames that are sent, and whether the face is found in them."""
    asked = Asked()
    for number in range(math.ceil((trial.goes_s + _AFTER_S) * FRAMES_PER_S)):
        if asked.is_due(number / FRAMES_PER_S):
            frame, box = camera.frame(number)
            look = look_at(frame)
            asked.answer(frame, look, number / FRAMES_PER_S)
            yield number, _is_found(look, box)


class Asked:
    """Which frames are sent: capture, detect and forward agree on it, here without the way between them."""

    def __init__(self) -> None:
        self._pace = SendSchedule()
        self._attention = LastFaceTimes(1)
        self._visits = CameraVisits()

    def is_due(self, at_s: float) -> bool:
        """Say whether the frame of that moment is sent."""
        return self._pace.is_due(at_s)

    def answer(self, frame: Frame, look: Look, at_s: float) -> None:
        """Take what was seen in a frame that was sent."""
        seen = question_about(frame, look.view, answer_to="", correlation=b"")
        faces = len(look.found)
        if faces:
            self._visits.look(seen, VisitRules())
        haste = self._visits.look_rate(seen) if faces else None
        unseen_s = self._attention.unseen_s(frame.source, at_s)
        summary = LookSummary(faces, unseen_s, haste, look.is_still, look.is_in_doubt)
        self._attention.note(frame.source, faces, at_s)
        self._pace.sent(at_s)
        self._pace.answered(frame.sequence, next_look_s(summary, DEFAULT_LOOKS_PER_S))


def _finds(look_at: LookAt, camera: Camera, number: int) -> bool:
    frame, box = camera.frame(number)
    return box is not None and _is_found(look_at(frame), box)


def _is_found(look: Look, box: Box | None) -> bool:
    if box is None:
        return False
    boxes = (tuple(map(float, each)) for each in look.found.boxes)
    return any(intersection_over_union((x, y, w, h), box) > _LEAST_OVERLAP for x, y, w, h in boxes)
