"""What a benchmark has found, in a form that can be shown and compared."""

from dataclasses import dataclass
from typing import Literal

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio, or a count, by which runs are compared; some have to keep a bound.

    Attributes:
        name: what it is, in words; unique in its part, and the same in every run.
        value: as measured: the median, where there are several.
        better: whether more of it is better, or less.
        bound: the least that it must be where more is better, the most where less is; None for no claim.
        unit: in which it is given; empty for a ratio or a count.
        limits: what bounds it, said where the bound is missed.
    """

    name: str
    value: float
    better: Literal["more", "less"]
    bound: float | None = None
    unit: str = ""
    limits: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it keeps its bound; one without a bound does."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.better == "more" else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column says what a row is, the others are numbers for the most part."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """All that one benchmark has found.

    Attributes:
        name: of its module, and of its place on the page.
        title: its heading.
        about: how it was measured, as Markdown, as far as the page does not say it.
        bars: a stacked bar for each name: CPU milliseconds by process.
        lead: what the page begins with, ahead of all parts.
    """

    name: str
    title: str
    about: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    bars: tuple[tuple[str, dict[str, float]], ...] = ()
    lead: Table | None = None

    @property
    def is_met(self) -> bool:
        """Whether every figure keeps its bound."""
        return all(figure.is_met for figure in self.figures)
