"""What shows and compares the benchmarks' figures; the benchmarks themselves are run by people."""

from pathlib import Path

import pytest

from benchmarks.looks.prices import Paid, as_lead
from benchmarks.report.comparison import compare
from benchmarks.report.findings import Figure, Part, Plot, Table
from benchmarks.report.page import as_markdown, as_page, as_text
from benchmarks.report.plots import draw
from benchmarks.report.records import Record, load, save

MORE = Figure("times less", 12.0, "more", 10.0)
LESS = Figure("of the floor", 1.4, "less", 1.5)
MISSED = Figure("memory", 71.0, "less", 60.0, "MB", "numpy alone takes 12.")
FREE = Figure("times quicker", 2.0, "more")
BARS = Plot(
    "bars", "By process", "bars", "", "CPU ms", {"one": (("a", 1.0), ("b", 2.0)), "two": (("b", 3.0),)}
)
LINES = Plot("lines", "By number", "lines", "devices", "CPU ms", {"store": ((1, 1.0), (1_000, 1.5))})
TABLE = Table(
    "Flat out", ("way", "frames/s", "s3"), (("ours", 66.25, None), ("theirs", 12_345.6, 3)), "Noisy."
)
PART = Part("pipeline", "The whole", "How.", (MORE, LESS, MISSED, FREE), (TABLE,), (BARS, LINES))


def part(*figures: Figure) -> Part:
    return Part("pipeline", "The whole", "How.", figures)


def worse(earlier: Figure, now: Figure) -> bool:
    (change,) = compare(part(earlier), part(now), tolerance=0.2)
    return change.is_worse


def with_value(figure: Figure, value: float) -> Figure:
    return Figure(figure.name, value, figure.better, figure.bound, figure.unit, figure.limits)


@pytest.mark.parametrize(
    ("figure", "value", "is_worse"),
    [
        (FREE, 1.7, False),
        (FREE, 1.5, True),
        (FREE, 9.0, False),
        (MORE, 9.9, True),  # within the noise, but the bound was kept and is not
        (LESS, 1.49, False),
        (LESS, 1.51, True),
        (MISSED, 75.0, False),  # it was missed before
        (MISSED, 90.0, True),
    ],
)
def test_a_figure_is_worse_beyond_the_noise_or_beyond_its_bound(
    figure: Figure, value: float, is_worse: bool
) -> None:
    assert worse(figure, with_value(figure, value)) == is_worse


def test_next_to_nothing_may_double() -> None:
    growth = Figure("growth", 0.1, "less", 16.0, "MiB")
    assert not worse(growth, with_value(growth, 0.5))
    assert worse(growth, with_value(growth, 3.0))


def test_a_figure_that_is_gone_is_worse_and_a_new_one_is_not() -> None:
    gone, new = compare(part(FREE), part(LESS), tolerance=0.2)[::-1]
    assert (gone.name, gone.now, gone.is_worse) == (FREE.name, None, True)
    assert (new.name, new.earlier, new.is_worse) == (LESS.name, None, False)


def test_findings_survive_their_file(tmp_path: Path) -> None:
    record = Record(PART, "2026-11-22", {"Python": "3.11"})
    save(tmp_path / "results.json", [record])
    assert load(tmp_path / "results.json") == {"pipeline": record}
    assert load(tmp_path / "none.json") == {}
    assert Part.from_json(PART.as_json()) == PART


@pytest.mark.parametrize("text", ['{"records": [{}]}', "[]", "{}", '{"records": [{"part": 1}]}', "x"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        load(path)


def test_a_missed_bound_is_said_with_what_limits_it() -> None:
    told = as_markdown(PART)
    assert "| memory | 71 MB | at most 60 MB | **missed** |" in told
    assert "Missed: memory, 71 MB (at most 60 MB). numpy alone takes 12." in told
    assert "| times less | 12 | at least 10 | holds |" in told
    assert "MISSED memory" in as_text(PART)
    assert not PART.is_met


def test_tables_have_as_many_digits_as_mean_something() -> None:
    assert "| ours | 66.2 |  |" in as_markdown(PART)
    assert "| theirs | 12,346 | 3 |" in as_markdown(PART)


def test_the_page_says_once_what_several_parts_were_measured_with() -> None:
    other = Part("store", "The store", "How.")
    page = as_page(
        [Record(PART, "2026-11-22", {"Python": "3.11"}), Record(other, "2026-11-22", {"Python": "3.11"})]
    )
    assert page.count("Python 3.11") == 1
    assert "- pipeline, store: date 2026-11-22; Python 3.11" in page
    assert "| pipeline | memory | 71 MB | at most 60 MB | **missed** |" in page


@pytest.mark.parametrize("plot", [BARS, LINES], ids=lambda plot: plot.kind)
def test_the_same_figures_give_the_same_picture(plot: Plot, tmp_path: Path) -> None:
    first = draw(plot, tmp_path).read_text()
    assert draw(plot, tmp_path).read_text() == first
    assert plot.title in first
    assert all(name in first for name in plot.series)


def test_the_page_begins_with_what_a_user_pays() -> None:
    paid = Paid("one person", 25, cpu_ms=4.0, homework_ms=160.0, plain_ms=80.0)
    part = Part("looks", "Looks", "How.", (MORE,), (TABLE,), lead=as_lead([paid]))
    page = as_page([Record(PART, "2026-07-01", {}), Record(Part.from_json(part.as_json()), "2026-07-02", {})])
    assert page.index("## What a camera costs") < page.index("## At a glance")
    assert "| one person, 25 frames/s | 4 | 80 | 160 | 40 | 10 | 5 | 2 |" in page
    assert "one person, 25 frames/s" in as_text(part)
