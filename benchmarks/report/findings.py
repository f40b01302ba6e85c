"""What a benchmark has found, in a form that can be shown, kept and compared."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

Cell = str | int | float | None
Point = tuple[float | str, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio, or a count, by which runs are compared; some have to keep a bound.

    Attributes:
        name: what it is, in words; unique in its part, and the same in every run.
        value: as measured: the median, where there are several.
        better: whether more of it is better, or less.
        bound: the least that it must be where more is better, the most where less is; nothing for no claim.
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
class Plot:
    """A picture of some of the figures.

    Attributes:
        name: of its file, without an ending.
        title: above it.
        kind: `bars`: stacked, the points' x are the bars' names; `lines`: x are numbers.
        x: what the horizontal axis shows; empty where the bars' names say it.
        y: what the vertical axis shows, with its unit.
        series: points by name.
    """

    name: str
    title: str
    kind: Literal["bars", "lines"]
    x: str
    y: str
    series: dict[str, tuple[Point, ...]]


@dataclass(frozen=True, slots=True)
class Part:
    """All that one benchmark has found.

    Attributes:
        name: of its module.
        title: its heading.
        about: how it was measured, as Markdown; rounds, seeds and sizes included.
        lead: what the page begins with, ahead of all parts.
    """

    name: str
    title: str
    about: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    lead: Table | None = None

    @property
    def is_met(self) -> bool:
        """Whether every figure keeps its bound."""
        return all(figure.is_met for figure in self.figures)

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON has."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read what `as_dict` returned and JSON has carried.

        Raises:
            ValueError: it is no such thing.
        """
        try:
            return cls(
                raw["name"],
                raw["title"],
                raw["about"],
                tuple(Figure(**figure) for figure in raw["figures"]),
                tuple(map(_table, raw["tables"])),
                tuple(map(_plot, raw["plots"])),
                _table(raw["lead"]) if raw.get("lead") else None,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a benchmark's findings: {error}") from error

    def as_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.as_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` wrote.

        Raises:
            ValueError: it is no such thing.
        """
        return cls.from_dict(json.loads(text))


def _table(raw: dict[str, Any]) -> Table:
    return Table(raw["title"], tuple(raw["columns"]), tuple(map(tuple, raw["rows"])), raw["remark"])


def _plot(raw: dict[str, Any]) -> Plot:
    series = {name: tuple((x, y) for x, y in points) for name, points in raw["series"].items()}
    return Plot(**{**raw, "series": series})
