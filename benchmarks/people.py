"""Does every person get a picture? Hundreds of synthetic people before a camera.

    python -m benchmarks.people [--people 500] [--seed 1] [--looks-per-s 5 10 30]

Faces of the real clips stand, walk, run, pass, stop, cross, take each other's place, leave and come back, in
a real room (`script`, `stage`); the real detector looks, and the real visits choose. A person who is seen
three times has to have a picture. A visit is *split* if one person has two, *merged* if two people share it
who were not meant to look like one.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import cv2

from benchmarks.report.alone import alone
from services.common.wire.seen import Seen, View
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source
from services.detect.detectors import Detector, open_detector
from services.detect.settings import DetectSettings
from services.forward.visits.camera_visits import CameraVisits, VisitRules
from tests.rigs.people.cast import gather, look, room
from tests.rigs.people.judge import Verdict, Watched, judge, whose
from tests.rigs.people.script import Scene, scenes
from tests.rigs.people.stage import stage
from tests.rigs.report.findings import Cell, Figure, Part, Table
from tests.support import SHARED

if TYPE_CHECKING:
    from services.detect.codec import BgrImage

MOST_SPLIT, MOST_MERGED, MOST_PICTURES = 0.1, 0.02, 2.5


class Theatre:
    """Plays scenes before a detector."""

    def __init__(self, detector: Detector, settings: DetectSettings) -> None:
        self._detector = detector
        self._settings = settings
        clips = SHARED / "data" / "video"
        self.cast: Sequence[Sequence[BgrImage]] = gather(detector, settings, clips)
        self._room = room(clips)

    def play(self, scene: Scene, looks_per_s: float, rules: VisitRules) -> Verdict:
        """Return the result for each person of a scene."""
        acts = {person.name: person.act for person in scene.people}
        return judge(self._watch(scene, looks_per_s, rules), acts)

    def _watch(self, scene: Scene, looks_per_s: float, rules: VisitRules) -> Iterator[Watched]:
        visits = CameraVisits()
        for shot in stage(scene, self.cast, self._room, looks_per_s):
            view = look(self._detector, shot.picture, self._settings)
            wanted = {each.index for each in visits.look(_seen(view, shot.at_s), rules)}
            people = whose(view.faces, shot.shown)
            for index, (person, sight) in enumerate(zip(people, view.faces, strict=True)):
                yield Watched(person, visits.visit_at(sight.box), index in wanted)


def _seen(view: View, at_s: float) -> Seen:
    time = EPOCH + timedelta(days=20_000, seconds=at_s)
    return Seen(Source("stage", "front"), 0, time, view, answer_to="", correlation=b"")


def play_all(options: argparse.Namespace) -> dict[float, Verdict]:
    """Play all scenes with a number of looks a second; return the result for each person."""
    settings = DetectSettings.model_validate({"device": "stage", "detector": "yunet", "keep": "visits"})
    found = {}
    with open_detector(settings) as detector:
        theatre = Theatre(detector, settings)
        for looks_per_s in options.looks_per_s:
            total = Verdict()
            for scene in scenes(options.seed, options.people, len(theatre.cast)):
                total += theatre.play(scene, looks_per_s, VisitRules())
            found[looks_per_s] = total
            print(f"{looks_per_s:g} looks a second: {total}", file=sys.stderr, flush=True)
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: how many people, and how many looks a second."""
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--looks-per-s", type=float, nargs="+", default=[5.0, 10.0, 30.0])


def measure(options: argparse.Namespace) -> Part:
    """Play, and return who has no picture."""
    cv2.setNumThreads(1)
    found = play_all(options)
    figures, tables = tuple(_figures(found)), (_table(found),)
    return Part("people", "Visits: nobody without a picture", figures=figures, tables=tables)


def _figures(found: dict[float, Verdict]) -> Iterator[Figure]:
    rows = [_row(each) for each in found.values()]
    nobodies, _visits, split, merged, pictures = (list(column) for column in zip(*rows, strict=True))
    yield Figure("people without a picture", sum(nobodies), "less", 0)
    yield Figure("of whom a visit is split, at most", max(split), "less", MOST_SPLIT)
    yield Figure("visits that are merged, at most", max(merged), "less", MOST_MERGED)
    yield Figure("pictures of a person, at most", max(pictures), "less", MOST_PICTURES)


def _table(found: dict[float, Verdict]) -> Table:
    columns = ("without a picture", "visits", "split", "merged", "pictures of a person")
    rows: list[tuple[Cell, ...]] = [
        (f"{looks_per_s:g}", each.people, *_row(each)) for looks_per_s, each in found.items()
    ]
    return Table("By looks a second", ("looks a second", "people", *columns), tuple(rows))


def _row(verdict: Verdict) -> tuple[float, ...]:
    people, visits = max(1, verdict.people), max(1, verdict.visits)
    shares = (verdict.split / people, verdict.merged / visits, verdict.pictures / people)
    return (verdict.nobodies.total(), verdict.visits, *shares)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
