"""Several cameras on one host, and what that costs."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.clips import ONE_FACE, clip
from benchmarks.rig import PARTS, running

FRAMES_A_S = 4
WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What a number of cameras came to.

    Attributes:
        cpu_ms: processor milliseconds a frame, by part.
        resident_mb: by part, the processes that capture starts not counted.
        stored_ms: for each face, from the frame to the bucket's answer.
        busy: share of this machine's processors that was not idle, whoever had it.
        dropped: frames that were not looked at.
    """

    cpu_ms: dict[str, float]
    resident_mb: dict[str, float]
    stored_ms: list[float]
    busy: float
    dropped: int

    @property
    def all_cpu_ms(self) -> float:
        """Processor milliseconds a frame, of all parts."""
        return sum(self.cpu_ms.values())


def watch(cameras: int, seconds: float, folder: Path) -> Watched:
    """Run the pipeline with so many cameras in an empty folder and measure it."""
    source = f"{clip(ONE_FACE, 'mjpeg', '640x480', fps=FRAMES_A_S).as_uri()}?loop=1"
    names = tuple(f"camera-{number}={source}" for number in range(cameras))
    with running(folder, names, f"file://{folder / 'faces'}") as rig:
        rig.wait("a second's faces", lambda: len(rig.stored()) >= FRAMES_A_S * cameras)
        time.sleep(WARM_UP_S)
        dropped_before, faces_before = rig.dropped(), len(rig.stored())
        psutil.cpu_percent()
        before = rig.usage()
        time.sleep(seconds)
        after, busy = rig.usage(), psutil.cpu_percent() / 100
        stored_s, dropped = rig.stored()[faces_before:], rig.dropped()
    frames = cameras * FRAMES_A_S * seconds
    return Watched(
        {part: (after[part].cpu_s - before[part].cpu_s) * 1e3 / frames for part in PARTS},
        {part: after[part].resident_bytes / 1e6 for part in PARTS},
        [each_s * 1e3 for each_s in stored_s],
        busy,
        sum(dropped.values()) - sum(dropped_before.values()),
    )
