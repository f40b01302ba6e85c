"""What was found as text for a terminal, and as the page docs/benchmarks.md. Pure: strings out of data."""

from collections.abc import Iterable, Sequence

from benchmarks.report.findings import Cell, Figure, Part, Table
from benchmarks.report.records import Record

_HEAD = """# What it costs

Made by `python -m benchmarks`. Each part also runs alone, by the command under its heading, and ends with
status 1 where a bound is not kept; `python -m benchmarks --compare docs/benchmarks/results.json` runs all
again and says what has become worse. Ratios are from one run, in which the ways take turns, and medians of
several rounds. The machines are shared and noisy: read the ratios, not the milliseconds.
[Where the time goes](benchmarks/profile.md) has the profile behind what is missed.
"""


def as_page(records: Sequence[Record]) -> str:
    """Return the whole page."""
    bounded = [
        (record.part, figure)
        for record in records
        for figure in record.part.figures
        if figure.bound is not None
    ]
    leads = [line for record in records if record.part.lead for line in _lead(record.part.lead)]
    summary = ["## At a glance", "", "| part | figure | measured | bound | |", "|---|---|---:|---:|---|"]
    summary += [f"| {part.name} {_row(figure)}" for part, figure in bounded]
    return "\n".join(
        [_HEAD, *leads, *summary, "", *(as_markdown(record.part) for record in records), *_machines(records)]
    )


def _lead(table: Table) -> list[str]:
    return [f"## {table.title}", "", *_table(table), "", table.remark, ""]


def _machines(records: Sequence[Record]) -> list[str]:
    """Return what each part was measured with, said once for those that have it in common."""
    lines = ["## Measured with", ""]
    told: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for record in records:
        told.setdefault((("date", record.date), *record.machine.items()), []).append(record.part.name)
    for machine, names in told.items():
        lines += [f"- {', '.join(names)}: {'; '.join(f'{name} {value}' for name, value in machine)}"]
    return [*lines, ""]


def as_text(part: Part) -> str:
    """Return a part as a terminal shows it."""
    lines = [part.title, "=" * len(part.title)]
    for table in (*([part.lead] if part.lead else []), *part.tables):
        cells = [table.columns, *([_text(cell) for cell in row] for row in table.rows)]
        lines += ["", table.title, *_aligned(cells)]
        lines += [table.remark] if table.remark else []
    lines += ["", *(_verdict(figure) for figure in part.figures)]
    return "\n".join(lines)


def as_markdown(part: Part) -> str:
    """Return a part as a section of the page."""
    lines = [f"## {part.title}", "", f"    python -m benchmarks.{part.name}", "", part.about.strip()]
    for table in part.tables:
        lines += ["", f"**{table.title}**", "", *_table(table)]
        if table.remark:
            lines += ["", table.remark]
    for plot in part.plots:
        lines += ["", f"![{plot.title}](benchmarks/{plot.name}.svg)"]
    if part.figures:
        lines += ["", *figures_table(part.figures)]
    lines += [line for figure in part.figures if not figure.is_met for line in ("", _missed(figure))]
    return "\n".join(lines) + "\n"


def figures_table(figures: Iterable[Figure]) -> list[str]:
    """Return figures with their bounds as the lines of a table."""
    lines = ["| figure | measured | bound | |", "|---|---:|---:|---|"]
    return [*lines, *map(_row, figures)]


def _row(figure: Figure) -> str:
    kept = "" if figure.bound is None else "holds" if figure.is_met else "**missed**"
    return f"| {figure.name} | {_measured(figure)} | {_bound(figure)} | {kept} |"


def _verdict(figure: Figure) -> str:
    if figure.bound is None:
        return f"       {figure.name}: {_measured(figure)}"
    verdict = "holds " if figure.is_met else "MISSED"
    return f"{verdict} {figure.name}: {_measured(figure)} ({_bound(figure)})"


def _missed(figure: Figure) -> str:
    return f"Missed: {figure.name}, {_measured(figure)} ({_bound(figure)}). {figure.limits}".rstrip()


def _measured(figure: Figure) -> str:
    return f"{_text(figure.value)} {figure.unit}".rstrip()


def _bound(figure: Figure) -> str:
    if figure.bound is None:
        return ""
    words = "at least" if figure.better == "more" else "at most"
    return f"{words} {_text(figure.bound)} {figure.unit}".rstrip()


def _table(table: Table) -> list[str]:
    is_number = [
        all(isinstance(row[index], int | float | None) for row in table.rows)
        for index in range(len(table.columns))
    ]
    return [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join("---:" if number else "---" for number in is_number) + "|",
        *("| " + " | ".join(map(_text, row)) + " |" for row in table.rows),
    ]


def _text(cell: Cell) -> str:
    """Return a cell with as many digits as mean something."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        if cell == int(cell) and abs(cell) < 1_000:
            return f"{cell:.0f}"
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        row[0].ljust(widths[0])
        + "".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
