"""The variants that play a clip: Faceferry, the homework's way, a plain loop, bare calls without messages."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from services.up.brokers import free_port
from tests.rigs.pipeline import PARTS, Rig, Usage, quantile, running, usage_of
from tests.rigs.servers import S3_BUCKET
from tests.support import MosquittoServer, S3Server

QUESTIONS = "faceferry_detect_question_seconds"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run over a clip.

    Attributes:
        frames: that were processed in the measured time.
        faces: that were stored.
        seconds: from the first frame to the last stored face.
        cpu_ms: processor time by part; the S3 server is `s3`.
        stored_bytes: size of the folder, where that was the store: images and the files beside them.
    """

    frames: int
    faces: int
    seconds: float
    cpu_ms: Mapping[str, float]
    stored_bytes: int = 0

    @property
    def cpu_ms_a_frame(self) -> float:
        """Processor milliseconds a frame, of all parts but the S3 server."""
        return sum(cost for part, cost in self.cpu_ms.items() if part != "s3") / self.frames

    @property
    def cpu_ms_a_face(self) -> float:
        """Processor milliseconds a stored face, likewise, with the frames that it was looked for in."""
        return self.cpu_ms_a_frame * self.frames / self.faces


@dataclass(frozen=True, slots=True)
class Live:
    """The result of a run with a live camera of 30 frames a second.

    Attributes:
        frames: that the camera delivered.
        latencies_s: of each stored face, from its frame to the bucket's answer.
        dropped: how many frames.
        cpu_ms: processor time by part.
        resident_mb: memory by part, at the end.
        question_ms: mean time of a question which faces are wanted; None if none was asked.
    """

    frames: float
    latencies_s: list[float]
    dropped: int
    cpu_ms: Mapping[str, float]
    resident_mb: Mapping[str, float]
    question_ms: float | None

    def latency_ms(self, share: float) -> float:
        """Return the given quantile of the latencies, in milliseconds."""
        return quantile(self.latencies_s, share) * 1e3


def flat_out(
    video: Path,
    folder: Path,
    s3: S3Server | None = None,
    *,
    keep: str = "every",
    watched: Callable[[Rig], AbstractContextManager[object]] | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Cost:
    """Play a clip paced through everything; the first frame starts the clock.

    Args:
        video: the clip.
        folder: where everything is, made here.
        s3: the store; None: a folder.
        keep: `visits` or `every`.
        watched: a context that watches, with a gallery, while the clip is played.
        settings: of all services.
    """
    url, keys = _store(folder, s3)
    cameras = (f"front={video.as_uri()}?paced=1",)
    keys |= {"FACEFERRY_GALLERY_PORT": str(free_port())} if watched else {}
    with running(folder, cameras, url, keep=keep, **keys, **settings) as rig:
        rig.wait_first_frame()
        with watched(rig) if watched else nullcontext():
            before, began_s, first = rig.usage(), time.monotonic(), rig.journal.frames
            s3_before = _cpu_ms(s3)
            rig.finish()
            seconds, cpu_ms = time.monotonic() - began_s, _difference_ms(before, rig.usage())
            if s3 is not None:
                cpu_ms["s3"] = _cpu_ms(s3) - s3_before
    stored = sum(path.stat().st_size for path in (folder / "faces").rglob("dt=*/**/*.j*"))
    return Cost(rig.journal.frames - first, len(rig.journal.faces), seconds, cpu_ms, stored)


def live(video: Path, folder: Path, seconds: float, keep: str = "every") -> Live:
    """Play a clip over and over as a camera of 30 frames a second, and measure for a while."""
    url, settings = _store(folder, None)
    settings["FACEFERRY_LOG_LEVEL"] = "debug"
    with running(folder, (f"front={video.as_uri()}?loop=1",), url, keep=keep, **settings) as rig:
        rig.wait("a stored face", lambda: bool(rig.stored()))
        time.sleep(2)
        asked, before = _questions(rig), rig.usage()
        stored, dropped = len(rig.stored()), sum(rig.dropped().values())
        time.sleep(seconds)
        after, latencies_s = rig.usage(), rig.stored()[stored:]
        count, took_s = (now - then for now, then in zip(_questions(rig), asked, strict=True))
        return Live(
            frames=30 * seconds,
            latencies_s=latencies_s,
            dropped=sum(rig.dropped().values()) - dropped,
            cpu_ms=_difference_ms(before, after),
            resident_mb={part: after[part].resident_bytes / 1e6 for part in PARTS},
            question_ms=took_s / count * 1e3 if count else None,
        )


def homework(video: Path, folder: Path) -> Cost:
    """Run the homework's way over a clip, its broker included."""
    (folder / "faces").mkdir(parents=True)
    broker = MosquittoServer(folder).start()
    try:
        cost = _told("homework", video, broker.port, folder / "faces")
        cpu_ms = {**cost.cpu_ms, "broker": usage_of(broker.pid).cpu_s * 1e3}
    finally:
        broker.kill()
    return Cost(cost.frames, cost.faces, cost.seconds, cpu_ms)


def plain(video: Path, model: Path, folder: Path) -> Cost:
    """Run a loop with `cv2.FaceDetectorYN` over a clip."""
    folder.mkdir(parents=True)
    return _told("plain", video, model, folder)


def floor(video: Path, folder: Path, only: str = "") -> Cost:
    """Do the same work by bare calls, in a process of its own; with `look` only run the network."""
    folder.mkdir(parents=True)
    return _told("floor", video, folder, only)


def in_folder(run: Callable[[Path], Cost], folder: Path, name: str) -> Callable[[int], Cost]:
    """Return a variant as `in_turns` calls it: in a folder of its own each time."""
    return lambda number: run(folder / f"{number} {name}")


def _store(folder: Path, s3: S3Server | None) -> tuple[str, dict[str, str]]:
    if s3 is None:
        return f"file://{folder / 'faces'}", {}
    return f"s3://{S3_BUCKET}/{folder.relative_to(folder.anchor)}", s3.environment


def _told(way: str, *arguments: object) -> Cost:
    """Run a variant of `benchmarks.others` to its end and return what it prints."""
    words = [sys.executable, "-m", "benchmarks.others", way, *map(str, arguments)]
    told = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return Cost(told["frames"], told["faces"], told["seconds"], {way: told["cpu_s"] * 1e3})


def _questions(rig: Rig) -> tuple[float, float]:
    return rig.counted("detect", f"{QUESTIONS}_count"), rig.counted("detect", f"{QUESTIONS}_sum")


def _difference_ms(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    return {part: (usage.cpu_s - before[part].cpu_s) * 1e3 for part, usage in after.items()}


def _cpu_ms(server: S3Server | None) -> float:
    return 0.0 if server is None else usage_of(server.pid).cpu_s * 1e3
