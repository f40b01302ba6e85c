"""The ways over a clip: Faceferry's, the homework's, a plain loop, and bare calls without any messages."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import PARTS, Usage, bucket_quantile, quantile, running, usage_of
from benchmarks.servers import S3_BUCKET
from tests.support import MosquittoServer, S3Server

QUESTIONS = "faceferry_detect_question_seconds"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run over a clip took.

    Attributes:
        frames: that were worked on while the time was taken.
        faces: that were stored.
        seconds: from the first frame to the last stored face.
        cpu_ms: processor time by part; the S3 server is `s3`.
        stored_bytes: what a folder took, where that was the store: images and what is written beside them.
    """

    frames: int
    faces: int
    seconds: float
    cpu_ms: Mapping[str, float]
    stored_bytes: int = 0

    @property
    def frames_per_s(self) -> float:
        """How fast it went."""
        return self.frames / self.seconds

    @property
    def cpu_ms_a_frame(self) -> float:
        """Processor milliseconds a frame, of all parts but the S3 server."""
        return sum(cost for part, cost in self.cpu_ms.items() if part != "s3") / self.frames


@dataclass(frozen=True, slots=True)
class Live:
    """How it went with a camera that does not wait.

    Attributes:
        frames: that the camera delivered.
        faces: that were stored.
        latencies_s: of each stored face, from its frame to the bucket's answer.
        dropped: frames by reason.
        cpu_ms: processor time by part.
        resident_mb: memory by part, at the end.
        questions: how many were answered in at most so many seconds.
    """

    frames: float
    faces: int
    latencies_s: list[float]
    dropped: Mapping[str, int]
    cpu_ms: Mapping[str, float]
    resident_mb: Mapping[str, float]
    questions: Mapping[float, float]

    def question_ms(self, share: float) -> float:
        """Return how long a share of the questions at most took."""
        return bucket_quantile(self.questions, share) * 1e3

    def latency_ms(self, share: float) -> float:
        """Return the latency that a share of all faces stays below."""
        return quantile(self.latencies_s, share) * 1e3


def flat_out(video: Path, folder: Path, s3: S3Server | None, keep: str = "every") -> Cost:
    """Play a clip paced through everything; the first frame starts the clock."""
    url, settings = _store(folder, s3)
    with running(folder, (f"front={video.as_uri()}?paced=1",), url, keep=keep, **settings) as rig:
        rig.wait_first_frame()
        before, began_s, first = rig.usage(), time.monotonic(), rig.journal.frames
        s3_before = _cpu_ms(s3)
        rig.finish()
        seconds, cpu_ms = time.monotonic() - began_s, _difference_ms(before, rig.usage())
        if s3 is not None:
            cpu_ms["s3"] = _cpu_ms(s3) - s3_before
        stored = sum(path.stat().st_size for path in (folder / "faces").rglob("dt=*/**/*.j*"))
        return Cost(rig.journal.frames - first, len(rig.journal.faces), seconds, cpu_ms, stored)


def live(video: Path, folder: Path, seconds: float, s3: S3Server | None = None, keep: str = "every") -> Live:
    """Play a clip over and over as a camera of 30 frames a second, and look on for a while."""
    url, settings = _store(folder, s3)
    settings = {**settings, "FACEFERRY_LOG_LEVEL": "debug"}
    with running(folder, (f"front={video.as_uri()}?loop=1",), url, keep=keep, **settings) as rig:
        rig.wait("a stored face", lambda: bool(rig.stored()))
        time.sleep(2)
        asked_before = rig.buckets("detect", QUESTIONS)
        before, faces_before, dropped_before = rig.usage(), len(rig.stored()), rig.dropped()
        time.sleep(seconds)
        after, latencies_s = rig.usage(), rig.stored()[faces_before:]
        asked = rig.buckets("detect", QUESTIONS)
        dropped = {reason: count - dropped_before.get(reason, 0) for reason, count in rig.dropped().items()}
    return Live(
        frames=30 * seconds,
        faces=len(latencies_s),
        latencies_s=latencies_s,
        dropped={reason: count for reason, count in dropped.items() if count},
        cpu_ms=_difference_ms(before, after),
        resident_mb={part: after[part].resident_bytes / 1e6 for part in PARTS},
        questions={bound: count - asked_before[bound] for bound, count in asked.items()},
    )


def homework(video: Path, folder: Path) -> Cost:
    """Run the homework's way over a clip, its broker included."""
    (folder / "faces").mkdir(parents=True)
    broker = MosquittoServer(folder).start()
    try:
        told = _told("benchmarks.homework", video, broker.port, folder / "faces")
        broker_ms = usage_of(broker.pid).cpu_s * 1e3
    finally:
        broker.kill()
    cpu_ms = {"homework": told["cpu_s"] * 1e3, "broker": broker_ms}
    return Cost(int(told["frames"]), int(told["faces"]), told["seconds"], cpu_ms)


def plain(video: Path, model: Path, folder: Path) -> Cost:
    """Run a loop with `cv2.FaceDetectorYN` over a clip."""
    told = _told("benchmarks.plain", video, model, folder)
    return Cost(int(told["frames"]), int(told["faces"]), told["seconds"], {"plain": told["cpu_s"] * 1e3})


def floor(video: Path, folder: Path, *options: str) -> Cost:
    """Do the same work by bare calls, in a process of its own; with `look` no more than looking."""
    folder.mkdir(parents=True)
    told = _told("benchmarks.floor", video, folder, *options)
    return Cost(int(told["frames"]), int(told["faces"]), told["seconds"], {"floor": told["cpu_s"] * 1e3})


def _store(folder: Path, s3: S3Server | None) -> tuple[str, dict[str, str]]:
    if s3 is None:
        return f"file://{folder / 'faces'}", {}
    return f"s3://{S3_BUCKET}/{folder.relative_to(folder.anchor)}", s3.environment


def _told(module: str, *arguments: object) -> dict[str, float]:
    """Run a module to its end and return what it prints."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _difference_ms(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    return {part: (after[part].cpu_s - before[part].cpu_s) * 1e3 for part in PARTS}


def _cpu_ms(server: S3Server | None) -> float:
    return 0.0 if server is None else usage_of(server.pid).cpu_s * 1e3
