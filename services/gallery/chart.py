"""Bars of an inline SVG chart; all lengths are whole numbers in units of its view box."""

from dataclasses import dataclass

HEIGHT = 48
SLOT = 10
GAP = 2
LEAST = 3
"""Height of the lowest bar: one face must be visible beside a thousand."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one hour.

    Attributes:
        hour: of the day, UTC, 0 to 23.
        count: faces in it.
        x: left edge.
        y: upper edge.
        width: its width.
        height: 0 without faces.
    """

    hour: int
    count: int
    x: int
    y: int
    width: int
    height: int


def bars(counts: list[int], first_hour: int = 0) -> list[Bar]:
    """Return a bar for each count.

    Args:
        counts: faces in each hour, in order of time.
        first_hour: which hour of the day comes first.
    """
    most = max(counts, default=0)
    return [
        Bar((first_hour + place) % 24, count, place * SLOT, HEIGHT - height, SLOT - GAP, height)
        for place, count in enumerate(counts)
        for height in [max(LEAST, round(HEIGHT * count / most)) if count else 0]
    ]


def summary(counts: list[int]) -> str:
    """Return a chart in words, for screen readers."""
    if not sum(counts):
        return "no faces in these hours"
    most = max(counts)
    return f"{sum(counts)} faces, most in one hour: {most}"
