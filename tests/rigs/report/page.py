"""What was found as text for a terminal, and in its place on the page docs/benchmarks.md. Pure.

The page is written by people; what a benchmark finds stands between `<!-- name -->` and `<!-- /name -->` and
is replaced by the next run. So the page is also the record that later runs are compared with.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.rigs.report.findings import Cell, Figure, Part, Table

_HEAD = "| figure | measured | bound | |"
_BLOCK = r"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
_ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| (?P<measured>[\d.,-]+)(?: [^|]*)? \| (?P<bound>[^|]*) \| .*\|$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure has changed; `is_worse` by more than noise explains, or by a bound that is broken now."""

    name: str
    earlier: float | None
    now: float | None
    is_worse: bool

    def __str__(self) -> str:
        then, now = (("none" if value is None else f"{value:.4g}") for value in (self.earlier, self.now))
        return f"{'WORSE' if self.is_worse else '     '} {self.name}: {then} -> {now}"


def published(page: str, part: Part, when: str) -> str:
    """Return the page with a part's findings in their place, and its bounds in the summary.

    Raises:
        ValueError: the page has no such place.
    """
    tables = "\n\n".join(f"**{table.title}**\n\n{_markdown(table)}" for table in part.tables)
    figures = "\n".join([_HEAD, "|---|---:|---:|---|", *map(_row, part.figures)])
    found = "\n\n".join(filter(None, (part.about.strip(), tables, figures, f"Measured {when}.")))
    page = _replaced(page, part.name, found)
    if part.lead is not None:
        page = _replaced(page, "lead", f"{_markdown(part.lead)}\n")
    return _replaced(page, "glance", "\n".join(_glance(page)))


def compare(page: str, part: Part, tolerance: float) -> list[Change]:
    """Return how each figure differs from what the page says.

    Args:
        page: an earlier docs/benchmarks.md.
        part: what was found now.
        tolerance: the share by which a figure may be worse before it counts.
    """
    block = re.search(_BLOCK.format(name=part.name), page, re.DOTALL)
    rows = _ROW.finditer(block[0].partition(_HEAD)[2]) if block else ()
    then = {row["name"]: float(row["measured"].replace(",", "")) for row in rows}
    changes = [_change(then.pop(figure.name, None), figure, tolerance) for figure in part.figures]
    return changes + [Change(name, value, None, is_worse=True) for name, value in then.items()]


def _change(earlier: float | None, now: Figure, tolerance: float) -> Change:
    if earlier is None:
        return Change(now.name, None, now.value, is_worse=not now.is_met)
    # Where little is good and there is next to nothing of it, a share of it means nothing.
    least = abs(now.bound) / 4 if now.bound is not None and now.better == "less" else 0.0
    worse_by = (earlier - now.value) * (1 if now.better == "more" else -1)
    was_met = Figure(now.name, earlier, now.better, now.bound).is_met
    is_worse = worse_by > tolerance * max(abs(earlier), least) or (was_met and not now.is_met)
    return Change(now.name, earlier, now.value, is_worse)


def as_text(part: Part) -> str:
    """Return a part as a terminal shows it."""
    lines = [part.title, "=" * len(part.title), *([part.about.strip()] if part.about else [])]
    for table in (*([part.lead] if part.lead else []), *part.tables):
        cells = [table.columns, *([_text(cell) for cell in row] for row in table.rows)]
        lines += ["", table.title, *_aligned(cells), *([table.remark] if table.remark else [])]
    return "\n".join([*lines, "", *map(_verdict, part.figures)])


def _replaced(page: str, name: str, text: str) -> str:
    new, times = re.subn(
        _BLOCK.format(name=name), lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL
    )
    if times != 1:
        raise ValueError(f"the page has {times} places for {name!r}")
    return new


def _glance(page: str) -> Iterator[str]:
    """Yield the lines of the summary: every figure of the page that has a bound."""
    yield from ("| part | figure | measured | bound | |", "|---|---|---:|---:|---|")
    for name, block in re.findall(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", page, re.DOTALL):
        rows = _ROW.finditer(block.partition(_HEAD)[2])
        yield from (f"| {name} {row[0]}" for row in rows if row["bound"] and name != "glance")


def _row(figure: Figure) -> str:
    kept = "" if figure.bound is None else "holds" if figure.is_met else "**missed**"
    return f"| {figure.name} | {_measured(figure)} | {_bound(figure)} | {kept} |"


def _verdict(figure: Figure) -> str:
    verdict = "      " if figure.bound is None else "holds " if figure.is_met else "MISSED"
    limits = f": {figure.limits}" if figure.limits and not figure.is_met else ""
    return f"{verdict} {figure.name}: {_measured(figure)} ({_bound(figure) or 'no bound'}){limits}"


def _measured(figure: Figure) -> str:
    return f"{_text(figure.value)} {figure.unit}".rstrip()


def _bound(figure: Figure) -> str:
    if figure.bound is None:
        return ""
    words = "at least" if figure.better == "more" else "at most"
    return f"{words} {_text(figure.bound)} {figure.unit}".rstrip()


def _markdown(table: Table) -> str:
    is_number = [_is_number(row[index] for row in table.rows) for index in range(len(table.columns))]
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join("---:" if number else "---" for number in is_number) + "|",
        *("| " + " | ".join(map(_text, row)) + " |" for row in table.rows),
    ]
    return "\n".join([*lines, *(["", table.remark] if table.remark else [])])


def _is_number(cells: Iterable[Cell]) -> bool:
    return all(isinstance(cell, int | float | None) for cell in cells)


def _text(cell: Cell) -> str:
    """Return a cell with as many digits as mean something."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        if cell == int(cell) and abs(cell) < 1_000:
            return f"{cell:.0f}"
        if abs(cell) < 0.1:
            return f"{cell:.4f}".rstrip("0")
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        row[0].ljust(widths[0])
        + "".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
