"""Two runs side by side. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.findings import Figure, Part


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure has changed.

    Attributes:
        name: the figure's.
        earlier: its value then; nothing if there was none.
        now: its value now; nothing if there is none any more.
        is_worse: by more than the machine's noise explains, or a bound is broken that was kept.
    """

    name: str
    earlier: float | None
    now: float | None
    is_worse: bool

    def __str__(self) -> str:
        then, now = (("none" if value is None else f"{value:.4g}") for value in (self.earlier, self.now))
        return f"{'WORSE' if self.is_worse else '     '} {self.name}: {then} -> {now}"


def compare(earlier: Part, now: Part, tolerance: float) -> list[Change]:
    """Return how each figure has changed.

    Args:
        earlier: a run to compare with.
        now: a run of the same part.
        tolerance: the share by which a figure may be worse before it counts.
    """
    then = {figure.name: figure for figure in earlier.figures}
    changes = [_change(then.get(figure.name), figure, tolerance) for figure in now.figures]
    gone = then.keys() - {figure.name for figure in now.figures}
    return changes + [Change(name, then[name].value, None, is_worse=True) for name in sorted(gone)]


def as_text(part: Part, changes: Sequence[Change]) -> str:
    """Return changes as a terminal shows them."""
    return "\n".join([part.title, *map(str, changes)])


def _change(earlier: Figure | None, now: Figure, tolerance: float) -> Change:
    if earlier is None:
        return Change(now.name, None, now.value, is_worse=not now.is_met)
    # Where little is good and there is next to nothing of it, a share of it means nothing.
    least = abs(now.bound) / 4 if now.bound is not None and now.better == "less" else 0.0
    slack = tolerance * max(abs(earlier.value), least)
    worse_by = (earlier.value - now.value) * (1 if now.better == "more" else -1)
    return Change(now.name, earlier.value, now.value, worse_by > slack or (earlier.is_met and not now.is_met))
