"""Draws which pictures of the people in a clip are kept: docs/visits.svg.

    python -m benchmarks.timeline [--clip shared/data/video/....mp4] [--to docs/visits.svg]

The clip is played through the whole pipeline, with default settings, while detect's questions to forward are
recorded. A line is a visit: how good a picture each of its frames would make, and which of them are taken.
The faces themselves are not drawn.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.rigs.asked import Moment, watch
from tests.rigs.clips import CROWD, VIDEOS
from tests.rigs.report.plots import COLOURS, STYLE, save

DOCS = Path(__file__).parents[1] / "docs"
_EVERY_Y = -0.08


def draw(moments: Sequence[Moment], title: str, path: Path) -> None:
    """Draw a line for each visit, below each other."""
    names = list(dict.fromkeys(moment.visit for moment in moments))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.7 * len(names) + 0.9))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        rows = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for number, (name, axes) in enumerate(zip(names, rows, strict=True)):
            _draw_visit(axes, [moment for moment in moments if moment.visit == name], COLOURS[number])
            axes.set_ylabel(f"person {number + 1}:\nquality", fontsize=9)
        rows[-1].set_xlabel("seconds of the clip")
        figure.tight_layout()
        save(figure, path)


def _draw_visit(axes: Any, moments: Sequence[Moment], colour: str) -> None:
    axes.plot([each.at_s for each in moments], [each.quality for each in moments], color=colour, linewidth=1)
    # A stroke for each frame: what is stored where every face is kept.
    every = [_EVERY_Y] * len(moments)
    axes.plot([each.at_s for each in moments], every, "|", color="#8c8c8c", markersize=6)
    taken = [each for each in moments if each.why is not None]
    axes.plot([each.at_s for each in taken], [each.quality for each in taken], "o", color=colour)
    for each in taken:
        place = {"xytext": (0, 7), "textcoords": "offset points"}
        axes.annotate(str(each.why), (each.at_s, each.quality), fontsize=8, ha="center", **place)
    axes.set_ylim(-0.16, 1.05)
    axes.set_yticks([0, 0.5, 1])
    note = f"every: {len(moments)} pictures, visits: {len(taken)}"
    axes.text(1.0, 0.16, note, transform=axes.transAxes, fontsize=9, ha="right")


def main() -> None:
    """Watch a clip and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=VIDEOS / CROWD[1])
    parser.add_argument("--to", type=Path, default=DOCS / "visits.svg")
    options = parser.parse_args()
    moments = watch(options.clip)
    draw(moments, f"{options.clip.name}: each frame's quality, and the pictures that are taken", options.to)


if __name__ == "__main__":
    main()
