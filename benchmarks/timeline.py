"""Draws what is kept of the people in a clip: docs/visits.svg.

    python -m benchmarks.timeline [--clip shared/data/video/....mp4] [--to docs/visits.svg]

The clip is played through the whole pipeline, with default settings, and what detect asks forward is listened
to. A line is a visit: how good a picture each of its frames would make, and which of them are taken. Of the
faces themselves nothing is drawn.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.clips import CROWD, VIDEOS
from benchmarks.report.plots import COLOURS, STYLE, save
from benchmarks.rig import running
from services.common.mqtt import Broker, Link
from services.common.sights import Seen, Why, decode_seen
from services.forward.visits.quality import quality
from services.forward.visits.visits import Rules, Visits

DOCS = Path(__file__).parents[1] / "docs"
_EVERY_Y = -0.08


@dataclass(frozen=True, slots=True)
class Moment:
    """A visit's face in one frame.

    Attributes:
        visit: its id.
        at_s: when, from the clip's start.
        quality: of the picture it would make, 0..1.
        why: it is wanted, if it is.
    """

    visit: str
    at_s: float
    quality: float
    why: Why | None


def watch(clip: Path) -> list[Moment]:
    """Play a clip through all of it; return what was seen, and which of it was wanted."""
    visits, moments = Visits(), []
    questions = sorted(asyncio.run(_questions(clip.absolute().as_uri())), key=lambda seen: seen.sequence)
    for seen in questions:
        # The same questions get the same answers: so which visit a face is of can be had, too.
        whys = {each.index: each.why for each in visits.look(seen, Rules())}
        at_s = (seen.time - questions[0].time).total_seconds()
        for index, sight in enumerate(seen.view.sights):
            rated = quality(sight, seen.view.width, seen.view.height)
            moments.append(Moment(visits.visit_at(sight.box), at_s, rated, whys.get(index)))
    return moments


async def _questions(clip: str) -> list[Seen]:
    """Return what detect asks forward about the frames of a clip, a URL."""
    asked: dict[int, Seen] = {}
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        folder = Path(made)
        with running(
            folder / "run", (f"front={clip}?paced=1",), f"file://{folder / 'faces'}", keep="visits"
        ) as rig:
            local, topics = Broker(rig.plan.local_url), ["faceferry/+/front/seen"]
            async with Link("local", local, identity="timeline", subscriptions=topics) as link:
                finishing = asyncio.create_task(asyncio.to_thread(rig.finish))
                while not finishing.done():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            seen = decode_seen((await anext(link)).message)
                            asked[seen.sequence] = seen
                await finishing
    return list(asked.values())


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
