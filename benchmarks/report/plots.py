"""Pictures of figures, as SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

from benchmarks.report.findings import Plot

COLOURS = ("#2f6f9f", "#e08e45", "#5f9e6e", "#b55d60", "#857aab", "#8c8c8c", "#d4b942")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: smaller, and a reader can search for it
    "svg.hashsalt": "faceferry",  # the same figures give the same file
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
}


def draw(plot: Plot, folder: Path) -> Path:
    """Draw a plot into a folder; return the file."""
    path = folder / f"{plot.name}.svg"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.55 * _bars(plot) + 1.6) if plot.kind == "bars" else (8, 4))
        axes = figure.subplots()
        (_draw_bars if plot.kind == "bars" else _draw_lines)(axes, plot)
        axes.set_title(plot.title, loc="left", fontsize=11)
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        save(figure, path)
    return path


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, the same file for the same figure; within `STYLE`."""
    figure.savefig(path, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    # The backend ends lines with blanks, which no file of this project has.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _bars(plot: Plot) -> int:
    return len({name for points in plot.series.values() for name, _ in points})


def _draw_bars(axes: Any, plot: Plot) -> None:
    """Draw a lying bar for each name, of the series one after the other."""
    names = list(dict.fromkeys(str(name) for points in plot.series.values() for name, _ in points))
    ends = dict.fromkeys(names, 0.0)
    for label, points in plot.series.items():
        values = {str(name): value for name, value in points}
        widths = [values.get(name, 0.0) for name in names]
        axes.barh(names, widths, left=[ends[name] for name in names], label=label, height=0.7)
        for name, width in zip(names, widths, strict=True):
            ends[name] += width
    for name, end in ends.items():
        axes.text(end, name, f" {end:.3g}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(plot.y)
    axes.set_xlim(0, 1.1 * max(ends.values()))


def _draw_lines(axes: Any, plot: Plot) -> None:
    for label, points in plot.series.items():
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, marker="o", label=label)
    every_x = sorted({x for points in plot.series.values() for x, _ in points if not isinstance(x, str)})
    if every_x[0] > 0 and every_x[-1] / every_x[0] >= 8:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(every_x, [f"{x:g}" for x in every_x])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
