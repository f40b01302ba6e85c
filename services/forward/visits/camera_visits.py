"""The visits before one camera: matches what is seen with them, and chooses the pictures to keep."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.common.wire import times
from services.common.wire.seen import Seen, SeenFace, View, WantedFace, Why
from services.common.wire.visits import Stage, VisitEvent
from services.forward.visits.look_rate import look_rate
from services.forward.visits.matching import Appearance, Box, Observation, Track, difference, match
from services.forward.visits.quality import quality

MAX_OPEN = 1_000
"""Visits of one camera at a time; of more the one that was seen longest ago ends."""


@dataclass(frozen=True, slots=True)
class VisitRules:
    """What a visit is, and which pictures of it are wanted; times in seconds of the frames' clock.

    Attributes:
        gap_s: a visit ends when its face was not seen for longer.
        better: a better picture has so many times the quality of the best one.
        apart_s: the least time from the last picture to a better one.
        most_shots: pictures of a visit at most; where it may be another person there are more.
        away_s: a face that was not seen for longer may be another person's when it is seen again.
        changed: the difference from one look to the next beyond which it may be another person's.
        back: the difference from the last picture, after it was away, beyond which it may be.
        anew_s: a visit ends after so long, and a person who is still there begins another; 0: never, so that
            a poster does not fill the bucket.
        missing_s: a wanted picture that has not come for so long is wanted again; 0: never.
    """

    gap_s: float = 2.0
    better: float = 1.1
    apart_s: float = 0.3
    most_shots: int = 8
    away_s: float = 0.3
    changed: float = 1.0
    back: float = 0.5
    anew_s: float = 0.0
    missing_s: float = 0.0


GOOD = 0.75
"""A picture of this quality is good: no closer looks for a better one."""
BETTERED_S = 1.0
"""If there was no better one for so long, the picture counts as good."""
HALF_FULL, NEARLY_FULL = 0.5, 0.8
CLEARLY_BETTER = 1.5


def rules_at_fill(rules: VisitRules, fill: float) -> VisitRules:
    """Return the rules for a spool that is so full, 0..1: only clearly better pictures, then none.

    First pictures are always wanted, and pictures of what may be another person.
    """
    if fill >= NEARLY_FULL:
        return replace(rules, most_shots=1)
    return replace(rules, better=max(rules.better, CLEARLY_BETTER)) if fill >= HALF_FULL else rules


@dataclass(slots=True, eq=False)
class _OpenVisit:
    """One visit; times are Unix times of frames.

    Attributes:
        id: its id.
        began_s: when it began.
        track: where its face is.
        picture: the observation of the best picture, of the person who is taken to be there now.
        asked_s: when the last picture was wanted.
        shots: how many pictures were wanted.
        is_here: whether the last of them has come.
        shown: the face id and the number of the last one that came; None before the first.
    """

    id: str
    began_s: float
    track: Track
    picture: Observation
    asked_s: float
    shots: int = 1
    is_here: bool = False
    shown: tuple[str, int] | None = None

    def is_over(self, now_s: float, rules: VisitRules) -> bool:
        """Say whether it has ended."""
        goes_on_for_long = rules.anew_s > 0 and now_s - self.began_s > rules.anew_s
        return goes_on_for_long or self.track.unseen_s(now_s) > rules.gap_s

    def look_rate(self, view: View, at_s: float) -> float:
        """Return how many times as often as usual the camera is to be looked at for this visit."""
        has_good = self.picture.quality >= GOOD or at_s - self.asked_s > BETTERED_S
        return look_rate(self.track, width=view.width, height=view.height, has_good=has_good)

    def observe(self, observation: Observation, rules: VisitRules) -> Why | None:
        """Add an observation of its face; return why a picture of it is wanted, or None."""
        why = self._why(observation, rules)
        self.track.follow(observation)
        if why is not None:
            self.picture, self.asked_s, self.is_here = observation, observation.at_s, False
            self.shots += 1
        return why

    def _why(self, observation: Observation, rules: VisitRules) -> Why | None:
        # It may be another person: a picture is wanted, and the best one before does not count any more.
        if difference(self.track.last.appearance, observation.appearance) > rules.changed:
            return Why.CHANGED
        was_away = self.track.unseen_s(observation.at_s) > rules.away_s
        if was_away and difference(self.picture.appearance, observation.appearance) > rules.back:
            return Why.BACK
        after_s = observation.at_s - self.asked_s
        if rules.missing_s and not self.is_here and after_s > rules.missing_s:
            return Why.MISSING
        is_due = after_s >= rules.apart_s and self.shots < rules.most_shots
        if not is_due or observation.quality <= rules.better * self.picture.quality:
            return None
        # While the last picture has not come, this may be the only one.
        return Why.MISSING if rules.missing_s and not self.is_here else Why.BETTER


class CameraVisits:
    """The open visits before one camera, by the frames' own times, so that a replay chooses the same."""

    def __init__(self) -> None:
        self._open: list[_OpenVisit] = []
        self._newest_s = float("-inf")
        self._ended: list[VisitEvent] = []

    def __len__(self) -> int:
        return len(self._open)

    def look(self, seen: Seen, rules: VisitRules) -> list[WantedFace]:
        """Take the faces of a frame; return which of them are wanted.

        Args:
            seen: the faces. Frames may come a little out of order, each once.
            rules: those that hold now.
        """
        self._end(seen.time.timestamp(), rules)
        observations = [_observation(sight, seen) for sight in seen.view.faces]
        going_on = list(self._open)
        found = match([visit.track for visit in going_on], observations)
        wanted = []
        for index, observation in enumerate(observations):
            why: Why | None
            if index in found:
                visit = going_on[found[index]]
                why = visit.observe(observation, rules)
            else:
                visit, why = self._begin(seen, observation), Why.FIRST
            if why is not None:
                wanted.append(WantedFace(index, visit.id, visit.shots, observation.quality, why))
        return wanted

    def look_rate(self, seen: Seen) -> float:
        """Return how many times as often as usual to look for the visits in this frame, the last one."""
        at_s = seen.time.timestamp()
        here = (visit for visit in self._open if visit.track.last.at_s >= at_s)
        return max((visit.look_rate(seen.view, at_s) for visit in here), default=1.0)

    def visit_at(self, box: Box) -> str:
        """Return the id of the open visit that was last seen just here; empty if there is none."""
        return next((visit.id for visit in self._open if visit.track.last.box == box), "")

    def picture_arrived(self, visit_id: str, shot: str, picture: str) -> VisitEvent | None:
        """Note that a wanted picture has come; return the news of it, or None if there is none.

        Args:
            visit_id: the id of its visit.
            shot: its number in the visit, as the face's attribute has it.
            picture: its face id.
        """
        visit = next((each for each in self._open if each.id == visit_id), None)
        if visit is None or not shot.isdecimal() or not 0 < int(shot) <= visit.shots:
            return None
        if visit.shown == (picture, int(shot)):
            return None  # it has come once more
        stage = Stage.BEGAN if visit.shown is None else Stage.BETTER
        visit.is_here = visit.is_here or int(shot) == visit.shots
        visit.shown = (picture, int(shot))
        return self._news(visit, stage)

    def end(self, at_s: float, rules: VisitRules) -> list[VisitEvent]:
        """End the visits of faces that were not seen for too long; return the news of them, once."""
        self._end(at_s, rules)
        return self.ended()

    def ended(self) -> list[VisitEvent]:
        """Return the news of visits that have ended, once."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> list[VisitEvent]:
        """End all visits, and forget the time of the last frame; return the news of them."""
        self._close(self._open)
        self._newest_s = float("-inf")
        return self.ended()

    def _end(self, at_s: float, rules: VisitRules) -> None:
        """End visits whose face was not seen for too long, and those that have gone on for too long."""
        if at_s < self._newest_s - rules.gap_s:  # the clock was set
            self._close(self._open)
            self._newest_s = at_s
        self._newest_s = max(self._newest_s, at_s)
        self._close([visit for visit in self._open if visit.is_over(self._newest_s, rules)])

    def _close(self, over: Sequence[_OpenVisit]) -> None:
        if not over:
            return
        self._open = [visit for visit in self._open if visit not in over]
        told = [self._news(visit, Stage.ENDED) for visit in over if visit.shown is not None]
        self._ended = [*self._ended, *told][-MAX_OPEN:]

    def _begin(self, seen: Seen, observation: Observation) -> _OpenVisit:
        if len(self._open) >= MAX_OPEN:
            self._close([min(self._open, key=lambda visit: visit.track.last.at_s)])
        at_s = observation.at_s
        visit = _OpenVisit(_mint(seen, observation), at_s, Track(observation), observation, at_s)
        self._open.append(visit)
        return visit

    def _news(self, visit: _OpenVisit, stage: Stage) -> VisitEvent:
        picture, shot = visit.shown or ("", 0)
        return VisitEvent(
            stage,
            visit.id,
            began=datetime.fromtimestamp(visit.began_s, UTC),
            seen=datetime.fromtimestamp(visit.track.last.at_s, UTC),
            picture=picture,
            shot=shot,
            quality=visit.picture.quality,
            people=len(self._open),
        )


def _observation(sight: SeenFace, seen: Seen) -> Observation:
    rated = quality(sight, seen.view.width, seen.view.height)
    return Observation(sight.box, Appearance.of(sight.signature), rated, seen.time.timestamp())


def _mint(seen: Seen, observation: Observation) -> str:
    """Return a visit's id: the time of its first frame, and a hash that is another for each face there."""
    about = f"{seen.source}\n{times.rfc3339(seen.time)}\n{observation.box}"
    return f"{times.compact(seen.time)}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
