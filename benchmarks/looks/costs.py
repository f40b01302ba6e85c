"""What a live camera costs, the whole of `up`, beside the homework's way and beside decoding alone."""

import contextlib
import re
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError

from services.capture.source.ffmpeg import find_ffmpeg
from tests.rigs.pipeline import PARTS, Rig, quantile, running

WARM_S = 6.0
"""Until everything runs as it will: a camera that begins is looked at as if somebody were there."""

LOOKS = "faceferry_capture_published_total"
DETECTED = "faceferry_detect_frames_total"

_LAST_FRAME = re.compile(r"frame= *(\d+)")


@dataclass(frozen=True, slots=True)
class Watched:
    """The result of a run with live cameras.

    Attributes:
        frames: that they delivered.
        looks: frames that were sent to detect.
        seconds: how long was measured.
        cpu_ms: processor time by part.
        latencies_s: of each stored face, from its frame to the bucket's answer.
        dropped: frames by reason.
    """

    frames: float
    looks: float
    seconds: float
    cpu_ms: Mapping[str, float]
    latencies_s: Sequence[float]
    dropped: Mapping[str, int]

    @property
    def cpu_ms_a_frame(self) -> float:
        """Processor milliseconds of all parts for each frame that came, looked at or not."""
        return sum(self.cpu_ms.values()) / self.frames

    def latency_ms(self, share: float) -> float:
        """Return the given quantile of the latencies, in milliseconds."""
        return quantile(list(self.latencies_s), share) * 1e3


def watch(video: Path, fps: int, folder: Path, seconds: float, cameras: int = 1, **settings: str) -> Watched:
    """Play a clip over and over as live cameras of its own rate, with default settings.

    Args:
        video: the clip.
        fps: its rate; frames that ffmpeg leaves out count, too.
        folder: where everything is, made here.
        seconds: for how long to measure.
        cameras: how many play it.
        settings: what differs from the defaults.
    """
    sources = tuple(f"c{number}={video.as_uri()}?loop=1" for number in range(cameras))
    settings = {"FACEFERRY_LOG_LEVEL": "debug", **settings}
    with running(folder, sources, f"file://{folder / 'faces'}", keep="visits", **settings) as rig:
        rig.wait("a look", partial(_has_looked, rig))
        time.sleep(WARM_S)
        stored, dropped = len(rig.stored()), rig.dropped()
        looks, before, began_s = rig.counted("capture", LOOKS), rig.usage(), time.monotonic()
        time.sleep(seconds)
        took_s, after = time.monotonic() - began_s, rig.usage()
        lost = {reason: count - dropped.get(reason, 0) for reason, count in rig.dropped().items()}
        return Watched(
            frames=fps * took_s * cameras,
            looks=rig.counted("capture", LOOKS) - looks,
            seconds=took_s,
            cpu_ms={part: (after[part].cpu_s - before[part].cpu_s) * 1e3 for part in PARTS},
            latencies_s=rig.stored()[stored:],
            dropped={reason: count for reason, count in lost.items() if count},
        )


def _has_looked(rig: Rig) -> bool:
    with contextlib.suppress(URLError):  # it does not listen yet
        return rig.counted("detect", DETECTED) > 0
    return False


def decoding_ms(video: Path) -> float:
    """Return the processor milliseconds that ffmpeg takes only to decode a frame of a clip."""
    words = [find_ffmpeg(), "-v", "error", "-stats", "-threads", "1", "-i", str(video), "-f", "null", "-"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent_s * 1e3 / int(_LAST_FRAME.findall(done.stderr)[-1])
