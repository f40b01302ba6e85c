"""Looks at a scene as capture, detect and forward do together, in a time of its own: pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.capture.flow_control import SendSchedule
from services.common.wire.seen import Seen, View
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source
from services.detect.look_interval import LastFaceTimes, LookSummary, next_look_s
from services.forward.visits.camera_visits import CameraVisits, VisitRules
from services.forward.visits.quality import quality

ANSWER_S = 0.04
"""From a frame to its answer."""
ALONE_S = 60.0
"""For so long nobody was there before a scene begins."""

_CAMERA = Source("stage", "front")
_MIDNIGHT = EPOCH + timedelta(days=20_000)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a look at one frame would find.

    Attributes:
        at_s: when it was taken, in seconds of the scene.
        view: what detect sees in it.
        people: of each of its sights whose face it is; nothing of what is nobody's.
        is_still: whether it is like the last one that was looked at; nothing if nobody compares.
    """

    at_s: float
    view: View
    people: tuple[str | None, ...]
    is_still: bool | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A person's face in a frame that was looked at.

    Attributes:
        person: whose.
        at_s: when.
        visit: which one it is taken for.
        quality: of the picture it makes, 0..1.
        is_wanted: whether that picture was wanted.
    """

    person: str
    at_s: float
    visit: str
    quality: float
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of a scene.

    Attributes:
        frames, looks: how many there were.
        frames_per_s: how many a second.
        sightings: in order.
    """

    frames: int
    looks: int
    frames_per_s: float
    sightings: tuple[Sighting, ...]


def rehearse(moments: Sequence[Moment], looks_per_s: float, lead_s: float = 0.0) -> Rehearsal:
    """Return what comes of a scene before which nobody was there for long.

    Args:
        moments: each frame of it.
        looks_per_s: how often is usual; 0: each frame.
        lead_s: for how long before it the last look was.
    """
    visits = CameraVisits()
    looked_at = list(_looked_at(moments, looks_per_s, visits, lead_s))
    sightings = tuple(each for sightings in looked_at for each in sightings)
    frames_per_s = (len(moments) - 1) / (moments[-1].at_s - moments[0].at_s)
    return Rehearsal(len(moments), len(looked_at), frames_per_s, sightings)


def _looked_at(
    moments: Sequence[Moment], looks_per_s: float, visits: CameraVisits, lead_s: float
) -> Iterator[list[Sighting]]:
    schedule, attention = SendSchedule(), LastFaceTimes(1)
    attention.note(_CAMERA, 0, -ALONE_S)
    schedule.sent(-lead_s)
    schedule.answered(0, next_look_s(LookSummary(0, ALONE_S, is_still=moments[0].is_still), looks_per_s))
    answers: list[tuple[float, int, float]] = []
    for number, moment in enumerate(moments, 1):
        while answers and answers[0][0] <= moment.at_s:
            schedule.answered(*answers.pop(0)[1:])
        if not schedule.is_due(moment.at_s):
            continue
        schedule.sent(moment.at_s)
        sightings, next_s = _look(moment, looks_per_s, visits, attention)
        answers.append((moment.at_s + ANSWER_S, number, next_s))
        yield sightings


def _look(
    moment: Moment, looks_per_s: float, visits: CameraVisits, attention: LastFaceTimes
) -> tuple[list[Sighting], float]:
    """Look at a frame; return what is seen, and how soon the next one is due."""
    view, sights = moment.view, moment.view.faces
    seen = Seen(_CAMERA, 0, _MIDNIGHT + timedelta(seconds=moment.at_s), view, "", b"")
    wanted = {each.index for each in visits.look(seen, VisitRules())} if sights else set()
    haste = visits.look_rate(seen) if sights else None
    unseen_s = attention.unseen_s(_CAMERA, moment.at_s)
    attention.note(_CAMERA, len(sights), moment.at_s)
    sightings = [
        Sighting(
            person,
            moment.at_s,
            visits.visit_at(sight.box),
            quality(sight, view.width, view.height),
            index in wanted,
        )
        for index, (person, sight) in enumerate(zip(moment.people, sights, strict=True))
        if person is not None
    ]
    return sightings, next_look_s(LookSummary(len(sights), unseen_s, haste, moment.is_still), looks_per_s)
