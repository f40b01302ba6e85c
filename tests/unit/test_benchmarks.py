"""What shows and compares the benchmarks' figures; the benchmarks themselves are run by people."""

import re
from pathlib import Path

import pytest

from tests.rigs.looks.prices import Paid, as_lead
from tests.rigs.report.findings import Figure, Part, Table
from tests.rigs.report.page import as_text, compare, published
from tests.rigs.report.plots import draw

ROOT = Path(__file__).parents[2]
BENCHMARKS = {
    (path.parent if path.stem == "__main__" else path).stem
    for path in (ROOT / "benchmarks").rglob("*.py")
    if "alone(__doc__" in path.read_text()
}
MORE = Figure("times less", 12.0, "more", 10.0)
LESS = Figure("of the floor", 1.4, "less", 1.5)
MISSED = Figure("memory", 71.0, "less", 60.0, "MB", "numpy alone takes 12.")
FREE = Figure("times quicker", 2.0, "more")
TABLE = Table(
    "Flat out", ("way", "frames/s", "s3"), (("ours", 66.25, None), ("theirs", 12_345.6, 3)), "Noisy."
)
BARS = (("a", {"one": 1.0}), ("b", {"one": 2.0, "two": 3.0}))
PART = Part("pipeline", "The whole", "How.", (MORE, LESS, MISSED, FREE), (TABLE,), BARS)
PAGE = """# What it costs
<!-- lead -->
<!-- /lead -->
<!-- glance -->
<!-- /glance -->
## The whole
Words of people.
<!-- pipeline -->
of last year
<!-- /pipeline -->
## The store
<!-- store -->
| figure | measured | bound | |
|---|---:|---:|---|
| rate | 2.91 | at least 0.85 | holds |
| bytes | 1,234 |  |  |
<!-- /store -->
"""


def worse(earlier: Figure, now: float) -> bool:
    page = published(PAGE, Part("pipeline", "", figures=(earlier,)), "")
    figure = Figure(earlier.name, now, earlier.better, earlier.bound, earlier.unit)
    (change,) = compare(page, Part("pipeline", "", figures=(figure,)), tolerance=0.2)
    return change.is_worse


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
        (Figure("growth", 0.1, "less", 16.0, "MiB"), 0.5, False),  # next to nothing may double
        (Figure("growth", 0.1, "less", 16.0, "MiB"), 4.5, True),
        (Figure("rate", 12_345.6, "more"), 12_000.0, False),
        (Figure("share", 0.0117, "less", 0.01), 0.0137, False),  # small ones keep their digits on the page
        (Figure("share", 0.0117, "less", 0.01), 0.0147, True),
    ],
)
def test_a_figure_is_worse_beyond_the_noise_or_beyond_its_bound(
    figure: Figure, value: float, is_worse: bool
) -> None:
    assert worse(figure, value) == is_worse


def test_a_figure_that_is_gone_is_worse_and_a_new_one_is_not() -> None:
    kept, new, gone = compare(
        PAGE, Part("store", "", figures=(Figure("rate", 2.9, "more", 0.85), FREE)), tolerance=0.2
    )
    assert (kept.earlier, kept.is_worse) == (2.91, False)
    assert (new.name, new.earlier, new.is_worse) == (FREE.name, None, False)
    assert (gone.name, gone.earlier, gone.now, gone.is_worse) == ("bytes", 1234.0, None, True)


def test_findings_take_their_place_on_the_page_and_nothing_else() -> None:
    page = published(PAGE, PART, "2026-11-30; a machine")
    assert "Words of people.\n<!-- pipeline -->\nHow.\n\n**Flat out**" in page
    assert "of last year" not in page
    assert "| ours | 66.2 |  |" in page
    assert "| theirs | 12,346 | 3 |" in page
    assert "| memory | 71 MB | at most 60 MB | **missed** |" in page
    assert "Measured 2026-11-30; a machine." in page
    assert page.partition("## The store")[2] == PAGE.partition("## The store")[2]
    assert published(page, PART, "2026-11-30; a machine") == page


def test_the_summary_has_every_bound_of_the_page() -> None:
    glance = published(PAGE, PART, "").partition("<!-- /glance -->")[0]
    assert "| pipeline | memory | 71 MB | at most 60 MB | **missed** |" in glance
    assert "| store | rate | 2.91 | at least 0.85 | holds |" in glance
    assert FREE.name not in glance
    assert "bytes" not in glance


def test_a_part_without_a_place_on_the_page_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places for 'fair'"):
        published(PAGE, Part("fair", ""), "")


def test_a_terminal_shows_what_is_missed_and_why() -> None:
    assert "MISSED memory: 71 MB (at most 60 MB): numpy alone takes 12." in as_text(PART)
    assert "holds  times less: 12 (at least 10)" in as_text(PART)
    assert not PART.is_met


def test_the_same_figures_give_the_same_picture(tmp_path: Path) -> None:
    first = draw(PART, tmp_path).read_text()
    assert draw(PART, tmp_path).read_text() == first
    assert all(word in first for word in ("The whole", "one", "two"))


def test_the_page_begins_with_what_a_user_pays() -> None:
    paid = Paid("one person", 25, cpu_ms=4.0, homework_ms=160.0, plain_ms=80.0)
    part = Part("pipeline", "Looks", "How.", (MORE,), (TABLE,), lead=as_lead([paid]))
    page = published(PAGE, part, "")
    assert (
        "| one person, 25 frames/s | 4 | 80 | 160 | 40 | 10 | 5 | 2 |" in page.partition("<!-- /lead -->")[0]
    )
    assert "one person, 25 frames/s" in as_text(part)


def test_each_benchmark_has_its_command_and_its_place_on_the_page() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert set(re.findall(r"^<!-- (\w+) -->$", page, re.MULTILINE)) == {*BENCHMARKS, "lead", "glance"}
    for name in BENCHMARKS:
        assert f"```sh\npython -m benchmarks.{name}\n```\n" in page
        assert page.count(f"<!-- /{name} -->\n") == 1


def test_the_commands_that_documents_name_exist() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        named = set(re.findall(r"python -m benchmarks\.(\w+)", path.read_text()))
        assert named <= {*BENCHMARKS, "timeline"}, path


def test_what_the_readme_says_of_costs_is_what_was_measured() -> None:
    said, measured = (
        dict(re.findall(r"^\| ([^|]+ frames/s) \| (.+) \|$", text, re.MULTILINE))
        for text in (
            (ROOT / "README.md").read_text(),
            (ROOT / "docs/benchmarks.md").read_text().partition("<!-- /lead -->")[0],
        )
    )
    assert said.keys() == measured.keys()
    for scene, figures in measured.items():
        rate = int(scene.split()[-2])
        ours, _plain, homework, *_ = map(float, figures.split(" | "))
        assert said[scene] == f"{ours:.1f} ms | {ours * rate / 10:.0f} % | {homework:.0f} ms"
