"""What a user pays: three cameras, in processor time and in how many a core carries. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.rigs.report.findings import Cell, Table

SLOWER = {"Raspberry Pi 5": 2.0, "Raspberry Pi 4": 5.0}
"""How many times longer a core of theirs takes than a server's, about, by public single-core results."""
_REMARK = """CPU milliseconds of all processes for each frame of 1920x1080 that the camera gives, with default
settings. *Cameras a core*: how many such cameras one core carries, at the camera's rate; for a Raspberry Pi
that is reckoned from a core that takes {ratios} times as long, not measured on one."""


@dataclass(frozen=True, slots=True)
class Paid:
    """What a camera takes, CPU ms a frame, at a rate of frames a second, and what others would."""

    scene: str
    fps: int
    cpu_ms: float
    homework_ms: float
    plain_ms: float

    def cameras_a_core(self, slower: float = 1.0) -> float:
        """Return how many such cameras a core carries that is so many times slower than this one."""
        return 1e3 / (self.cpu_ms * self.fps * slower)


def as_lead(paid: Sequence[Paid]) -> Table:
    """Return the table that docs/benchmarks.md begins with."""
    columns = (
        *("scene", "Faceferry", "plain `FaceDetectorYN` loop", "homework's way"),
        *("times less than the homework's", "cameras a core"),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            f"{each.scene}, {each.fps} frames/s",
            each.cpu_ms,
            each.plain_ms,
            each.homework_ms,
            each.homework_ms / each.cpu_ms,
            each.cameras_a_core(),
            *(each.cameras_a_core(slower) for slower in SLOWER.values()),
        )
        for each in paid
    )
    remark = _REMARK.format(ratios=" or ".join(f"{ratio:g}" for ratio in SLOWER.values()))
    return Table("What a camera costs", (*columns, *(f"on a {name}" for name in SLOWER)), rows, remark)
