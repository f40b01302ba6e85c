"""Is a person missed by looking at fewer frames? Faces pasted into real clips, against a look at each frame.

    python -m benchmarks.recall [--trials 1000] [--first 0] [--seed 1] [--whole]

Each visit of 0.3 seconds or more that a look at each frame finds must also be found with detect's looks,
at most 0.6 seconds later. Ends with status 1 if one is not.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import cv2

from benchmarks.report.alone import alone
from services.detect.detectors import open_detector
from services.detect.settings import DetectSettings
from tests.rigs.recall.stage import Stage
from tests.rigs.recall.trials import LEAST_PX, MOST_PX
from tests.rigs.recall.watched import LATEST_S, LEAST_VISIT_S, SEEN, Outcome
from tests.rigs.report.findings import Figure, Part, Table

ABOUT = """
{trials} trials from number {first} on, seed {seed}: a real clip enlarged to 640x360, 1280x720 or
1920x1080, with a sensor's noise, as JPEGs; in seven of ten it stands still. After up to six seconds
somebody comes, for up to one and a half: a face of the clips, cut out with an oval, {least:g} to
{most:g} pixels high at the detector's scale (sizes evenly spread on a scale of logarithms), who stands,
walks, or runs through the picture, up to three face widths in a tenth of a second. Each trial is watched
twice at 30 frames a second: with a look at the whole of each frame, and as detect does it{how}, with as
many frames as it asks for. A visit counts that the first finds in {seen} frames or more, {visit_s:g}
seconds or more from the first to the last. It is missed if the second has not found it {latest_s:g}
seconds after the first has.
"""


def play(options: argparse.Namespace) -> list[Outcome]:
    """Play all trials; print each one that is missed."""
    settings = DetectSettings.model_validate({"device": "recall", "detector": "yunet", "keep": "visits"})
    outcomes = []
    with open_detector(settings) as detector:
        stage = Stage(detector, settings, by_parts=not options.whole)
        for number in range(options.first, options.first + options.trials):
            outcomes.append(outcome := stage.play(number, options.seed))
            if outcome.is_missed:
                print(f"missed: {outcome}", file=sys.stderr, flush=True)
    return outcomes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: which trials are played, and how they are watched."""
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first trial")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="look at whole frames only")


def measure(options: argparse.Namespace) -> Part:
    """Play, and return who is missed."""
    cv2.setNumThreads(1)
    outcomes = play(options)
    about = ABOUT.format(
        trials=options.trials,
        first=options.first,
        seed=options.seed,
        least=LEAST_PX,
        most=MOST_PX,
        how=", in whole frames" if options.whole else "",
        seen=SEEN,
        visit_s=LEAST_VISIT_S,
        latest_s=LATEST_S,
    )
    missed = sum(outcome.is_missed for outcome in outcomes)
    figures = (Figure("visits that are missed or found late", missed, "less", 0),)
    return Part("recall", "Looks: nobody missed by looking less", about, figures, (_table(outcomes),))


def _table(outcomes: Sequence[Outcome]) -> Table:
    acts = Counter(outcome.trial.act for outcome in outcomes)
    rows = []
    for act in acts:
        counted = [outcome for outcome in outcomes if outcome.trial.act == act and outcome.counts]
        late_s = sorted(outcome.late_s for outcome in counted if outcome.found_s is not None)
        missed = sum(outcome.is_missed for outcome in counted)
        rows.append((act, acts[act], len(counted), missed, _at(late_s, 0.5), _at(late_s, 0.99)))
    columns = ("act", "trials", "visits", "missed", "later by, median, s", "later by, p99, s")
    return Table("By act", columns, tuple(rows))


def _at(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(part * len(values)))] if values else 0.0


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
