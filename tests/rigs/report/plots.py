"""Pictures of figures, as SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

from tests.rigs.report.findings import Part

COLOURS = ("#2f6f9f", "#e08e45", "#5f9e6e", "#b55d60", "#857aab", "#8c8c8c", "#d4b942")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: smaller, and a reader can search for it
    "svg.hashsalt": "faceferry",  # the same figures give the same file
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
}


def draw(part: Part, folder: Path) -> Path:
    """Draw a part's bars into a folder, each lying, its pieces one after the other; return the file."""
    names = [name for name, _ in part.bars]
    ends = dict.fromkeys(names, 0.0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.55 * len(names) + 1.6))
        axes: Any = figure.subplots()
        for label in dict.fromkeys(label for _, pieces in part.bars for label in pieces):
            widths = [pieces.get(label, 0.0) for _, pieces in part.bars]
            axes.barh(names, widths, left=list(ends.values()), label=label, height=0.7)
            ends = {name: end + width for (name, end), width in zip(ends.items(), widths, strict=True)}
        for name, end in ends.items():
            axes.text(end, name, f" {end:.3g}", va="center", fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel("CPU ms a frame")
        axes.set_xlim(0, 1.1 * max(ends.values()))
        axes.set_title(part.title, loc="left", fontsize=11)
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        return save(figure, folder / f"{part.name}.svg")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG, the same file for the same figure; within `STYLE`."""
    figure.savefig(path, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    # The backend ends lines with blanks, which no file of this project has.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path
