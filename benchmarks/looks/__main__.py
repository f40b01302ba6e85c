"""What a live camera costs with the default number of looks, and which people that misses.

    python -m benchmarks.looks [--rounds 3] [--live-s 20]

Five scenes as live cameras with default settings, the whole of `up`, beside the homework's way and a plain
loop with `cv2.FaceDetectorYN` over the same clips in the same run: an empty room with a sensor's noise, one
person who sits before the camera, a street with six faces a frame in MJPEG and in H.264, and eight cameras
with nobody. Then the same decisions in simulated time, over the street, compared with a look at each frame;
`benchmarks.recall` does that for faces of any size. Ends with status 1 if a bound is missed.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.detect import REFERENCE_MODEL
from benchmarks.looks.costs import Watched, decoding_ms, watch
from benchmarks.report.alone import alone
from benchmarks.ways import homework, plain
from services.common.runtime.shared_settings import DEFAULT_LOOKS_PER_S
from services.detect.detectors import open_detector
from services.detect.settings import DetectSettings
from tests.rigs.clips import noisy_room, reader, shortened
from tests.rigs.looks.prices import Paid, as_lead
from tests.rigs.looks.rehearsal import rehearse
from tests.rigs.looks.script import STREET_S
from tests.rigs.looks.theatre import STREET_FPS, Theatre
from tests.rigs.looks.verdict import Outcome, compare
from tests.rigs.pipeline import PARTS, median
from tests.rigs.report.findings import Figure, Part, Table
from tests.support import SHARED

HOMEWORK_FRAMES = 40
"""Of a clip, on which the homework's way is measured."""
EMPTY, ONE, STREET = "empty room", "one person", "street, MJPEG"
STREET_H264, EIGHT = "street, H.264", "eight empty rooms"
LEADING = EMPTY, ONE, STREET
MOST_OF_HOMEWORK = {EMPTY: 0.01, STREET: 0.015, EIGHT: 0.008}
MOST_OF_DECODING = 1.7
MOST_SPLIT, LEAST_SHARE, MEAN_SHARE = 0.1, 0.9, 0.95
ABOUT = """
Live cameras of 1920x1080 (the eight: 1280x720) over the whole of `up` with default settings, for {live_s:g} s
each, {rounds} rounds, each with a sensor's noise: an empty room, 30 frames a second of 180 kB; one person who
reads in the middle of such a room, 30 frames a second; a street of 25 frames a second on which people of the
test clips walk by, six at a time, once more in H.264 as a network camera delivers it (6 Mbit a second, a key
frame every other second); eight empty rooms of 15 frames a second. CPU counts all processes, ffmpeg and both
brokers, for each frame that a camera gives, looked at or not. *Homework* is the original homework's way over
the first {frames} frames of the same clip; *plain loop* is one with `cv2.FaceDetectorYN` on full frames that
saves each face; *decoding* is ffmpeg alone.

*Whom it misses* is judged in a time of its own, with the same code in the same order: the real detector has
looked at every frame, and what it found counts for those frames alone that would have been looked at, with
answers after 40 ms. *Best picture* is a visit's, its quality in parts of the best sight of all frames.
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip and how cameras play it.

    Attributes:
        name: for display.
        video: the clip.
        fps: its rate.
        cameras: how many play it.
    """

    name: str
    video: Path
    fps: int
    cameras: int = 1


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a scene in each round.

    Attributes:
        watched: Faceferry's.
        homework_ms: the homework's way, CPU ms a frame.
        plain_ms: the plain loop, CPU ms a frame.
        decoding_ms: ffmpeg alone, CPU ms a frame.
    """

    watched: Sequence[Watched]
    homework_ms: Sequence[float]
    plain_ms: Sequence[float]
    decoding_ms: Sequence[float]

    @property
    def cpu_ms(self) -> float:
        """Faceferry's CPU ms a frame, the median of the rounds."""
        return median([one.cpu_ms_a_frame for one in self.watched])

    @property
    def of_homework(self) -> float:
        """Faceferry's CPU time as a share of the homework's, the median of the rounds."""
        pairs = zip(self.watched, self.homework_ms, strict=True)
        return median([ours.cpu_ms_a_frame / theirs for ours, theirs in pairs])

    @property
    def of_decoding(self) -> float:
        """Faceferry's CPU time as a multiple of decoding alone."""
        pairs = zip(self.watched, self.decoding_ms, strict=True)
        return median([ours.cpu_ms_a_frame / theirs for ours, theirs in pairs])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: how long, and how many."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--live-s", type=float, default=20.0, help="how long a live camera is looked at")


def measure(options: argparse.Namespace) -> Part:
    """Run everything."""
    cv2.setNumThreads(1)
    settings = DetectSettings.model_validate({"device": "stage", "detector": "yunet", "keep": "visits"})
    with open_detector(settings) as detector:
        theatre = Theatre(detector, settings)
        scenes = _scenes(theatre)
        street = _judge_street(theatre)
    costs = _costs(scenes, options.rounds, options.live_s)
    about = ABOUT.format(**vars(options), frames=HOMEWORK_FRAMES)
    figures = (*_cost_figures(costs), *_street_figures(street))
    tables = (_cost_table(costs), _parts_table(costs), _verdict_table(street))
    lead = as_lead([_paid(scene, costs[scene.name]) for scene in scenes if scene.name in LEADING])
    return Part("looks", "Looks: how often, and what it costs", about, figures, tables, lead=lead)


def _scenes(theatre: Theatre) -> list[Scene]:
    return [
        Scene(EMPTY, noisy_room("1920x1080", 30), 30),
        Scene(ONE, reader(), 30),
        Scene(STREET, theatre.film_street("mjpeg"), STREET_FPS),
        Scene(STREET_H264, theatre.film_street("h264-camera"), STREET_FPS),
        Scene(EIGHT, noisy_room("1280x720", 15), 15, cameras=8),
    ]


def _costs(scenes: Sequence[Scene], rounds: int, live_s: float) -> dict[str, Costs]:
    watched, theirs, simple, decoding = (defaultdict(list) for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        for number in range(rounds):
            for scene in scenes:
                print(f"round {number + 1}: {scene.name}", file=sys.stderr, flush=True)
                folder = Path(made) / f"{number} {scene.name}"
                beginning = shortened(scene.video, HOMEWORK_FRAMES)
                watched[scene.name].append(watch(scene.video, scene.fps, folder, live_s, scene.cameras))
                theirs[scene.name].append(homework(beginning, folder / "homework").cpu_ms_a_frame)
                looping = plain(beginning, SHARED / "models" / REFERENCE_MODEL, folder / "plain")
                simple[scene.name].append(looping.cpu_ms_a_frame)
                decoding[scene.name].append(decoding_ms(scene.video))
    return {name: Costs(watched[name], theirs[name], simple[name], decoding[name]) for name in watched}


def _paid(scene: Scene, costs: Costs) -> Paid:
    homework_ms, plain_ms = median(list(costs.homework_ms)), median(list(costs.plain_ms))
    return Paid(scene.name, scene.fps, costs.cpu_ms, homework_ms, plain_ms)


def _judge_street(theatre: Theatre) -> Outcome:
    moments = theatre.look_at_street()
    paced = rehearse(moments, DEFAULT_LOOKS_PER_S)
    return compare(rehearse(moments, 0.0), paced, before_s=STREET_S - 1)


def _cost_figures(costs: Mapping[str, Costs]) -> Iterator[Figure]:
    for name, bound in MOST_OF_HOMEWORK.items():
        yield Figure(
            f"{name}: CPU a frame in parts of the homework's way", costs[name].of_homework, "less", bound
        )
    of_decoding = costs[STREET_H264].of_decoding
    yield Figure(f"{STREET_H264}: CPU a frame in parts of decoding it", of_decoding, "less", MOST_OF_DECODING)


def _street_figures(street: Outcome) -> Iterator[Figure]:
    yield Figure("street: visits missed", len(street.missed), "less", 0)
    yield Figure("street: visits split", street.split / street.visits, "less", MOST_SPLIT)
    yield Figure("street: worst best picture", min(street.shares), "more", LEAST_SHARE)
    yield Figure("street: mean best picture", sum(street.shares) / len(street.shares), "more", MEAN_SHARE)


def _cost_table(costs: Mapping[str, Costs]) -> Table:
    columns = (
        *("scene", "frames/s", "looks/s", "CPU ms a frame", "homework", "plain loop", "decoding"),
        *("p50 ms", "p99 ms", "dropped"),
    )
    return Table("Live", columns, tuple(_cost_row(name, each) for name, each in costs.items()))


def _cost_row(name: str, each: Costs) -> tuple[str | float | None, ...]:
    return (
        name,
        median([one.frames / one.seconds for one in each.watched]),
        median([one.looks / one.seconds for one in each.watched]),
        each.cpu_ms,
        median(list(each.homework_ms)),
        median(list(each.plain_ms)),
        median(list(each.decoding_ms)),
        _latency_ms(each.watched, 0.5),
        _latency_ms(each.watched, 0.99),
        sum(sum(one.dropped.values()) for one in each.watched),
    )


def _latency_ms(watched: Sequence[Watched], share: float) -> float | None:
    known = [one.latency_ms(share) for one in watched if one.latencies_s]  # nobody comes into an empty room
    return median(known) if known else None


def _parts_table(costs: Mapping[str, Costs]) -> Table:
    title = "CPU ms a frame by process (capture has ffmpeg with it)"
    return Table(title, ("scene", *PARTS), tuple(_parts_row(name, each) for name, each in costs.items()))


def _parts_row(name: str, each: Costs) -> tuple[str | float, ...]:
    return (name, *(median([one.cpu_ms[part] / one.frames for one in each.watched]) for part in PARTS))


def _verdict_table(street: Outcome) -> Table:
    columns = ("scene", "visits", "missed", "split", "worst best picture", "mean", "latest first, s", "looks")
    row = (
        "street",
        street.visits,
        len(street.missed),
        street.split,
        min(street.shares),
        sum(street.shares) / len(street.shares),
        max(street.late_s),
        f"{street.looks} of {street.frames}",
    )
    return Table("Whom it misses, beside a look at each frame", columns, (row,))


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
