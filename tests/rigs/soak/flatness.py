"""Whether something that is sampled for a long time stays as it is. Pure: verdicts out of numbers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WINDOWS = 6
"""What follows the warm-up is cut into so many windows of equal length."""
MOST_RISE = 1.05
LEAST_COUNTED = 2
"""Of a dozen descriptors, 5 % are less than one: a leak grows beyond two, whatever there was."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process had at a moment.

    Attributes:
        at_s: seconds from the start.
        resident_bytes: memory, the pages of programs and libraries included that others push out and share.
        own_bytes: memory of its own, wherever it is: what a leak is made of.
        descriptors: open files, sockets and pipes.
        threads: how many.
    """

    at_s: float
    resident_bytes: int
    own_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Course:
    """How a number went after the warm-up: the median of each window, in order.

    A median passes over the peaks that last for less than half a window, which a page, a picture or a
    reconnection makes. A line through all samples would follow them, and the last minute would decide.
    """

    medians: tuple[float, ...]

    @property
    def first(self) -> float:
        """The first window's median."""
        return self.medians[0]

    @property
    def highest(self) -> float:
        """The highest median of the others: what rose and fell again has risen."""
        return max(self.medians[1:])

    @property
    def rise(self) -> float:
        """The highest over the first."""
        return self.highest / self.first

    @property
    def most(self) -> float:
        """How high a count may be that is flat: 5 % above the first, or two."""
        return max(self.first * MOST_RISE, self.first + LEAST_COUNTED)


def course(samples: Sequence[tuple[float, float]], warm_s: float, end_s: float) -> Course:
    """Return how a number went.

    Args:
        samples: seconds from the start, and the number.
        warm_s: what comes before is passed over.
        end_s: when the run ended.

    Raises:
        ValueError: a window has no sample.
    """
    width_s = (end_s - warm_s) / WINDOWS
    windows = [
        [value for at_s, value in samples if 0 <= at_s - warm_s - number * width_s < width_s]
        for number in range(WINDOWS)
    ]
    if width_s <= 0 or not all(windows):
        raise ValueError(f"too few samples behind {warm_s:g} s for {WINDOWS} windows")
    return Course(tuple(statistics.median(window) for window in windows))
