"""The whole pipeline beside the homework's way and beside its own floor.

    python -m benchmarks.pipeline [--rounds 3] [--quick] [--json FILE]

Real clips of several people, 1920x1080 and 640x480, as MJPEG and as H.264. Flat out: every frame, paced, into
a folder and into a real S3 server. Live: 30 frames a second. The floor is the same work as bare calls in one
process without any messaging. Processor time counts every process: our services, ffmpeg, both brokers; the S3
server is listed apart. Rounds alternate, and the median counts. Ends with status 1 if a claim does not hold.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.clips import CROWD, ONE_FACE, clip
from benchmarks.rig import PARTS, median, quantile, running
from tests.support import SHARED, MosquittoServer, S3Server

LIVE_S = 20.0
CLAIMS = {
    # (codec, store): how many times less than the homework's way a frame must cost at 1920x1080
    ("mjpeg", "folder"): 20.0,
    ("mjpeg", "s3"): 10.0,
    ("h264", "folder"): 12.0,
    ("h264", "s3"): 8.0,
}


@dataclass(frozen=True)
class Cost:
    """What a run over a clip took."""

    frames: int
    faces: int
    seconds: float
    cpu_ms: dict[str, float]

    @property
    def cpu_ms_a_frame(self) -> float:
        """Processor milliseconds a frame, of all that belongs to us."""
        return sum(cost for part, cost in self.cpu_ms.items() if part != "s3") / self.frames


def flat_out(video: Path, folder: Path, s3: S3Server | None) -> Cost:
    """Play a clip paced through everything; count from the first frame on."""
    store = f"file://{folder / 'faces'}"
    settings: dict[str, str] = {}
    if s3 is not None:
        store, settings = f"s3://bench/{folder.name}", s3.environment
    with running(folder, (f"front={video.as_uri()}?paced=1",), store, **settings) as rig:
        while not rig.journal.frames:
            time.sleep(0.002)
            rig.journal.follow()
        before, began_s, first = rig.usage(), time.monotonic(), rig.journal.frames
        s3_before = _cpu_s(s3)
        rig.finish()
        after, seconds = rig.usage(), time.monotonic() - began_s
        cpu_ms = {part: (after[part].cpu_s - before[part].cpu_s) * 1e3 for part in PARTS}
        if s3 is not None:
            cpu_ms["s3"] = (_cpu_s(s3) - s3_before) * 1e3
        return Cost(rig.journal.frames - first, len(rig.journal.faces), seconds, cpu_ms)


def homework(video: Path, folder: Path) -> Cost:
    """Run the homework's way over a clip, its broker included."""
    folder.mkdir(parents=True)
    (folder / "faces").mkdir()
    broker = MosquittoServer(folder).start()
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.homework",
                str(video),
                str(broker.port),
                str(folder / "faces"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        spent = psutil.Process(broker.pid).cpu_times()
    finally:
        broker.kill()
    told = json.loads(done.stdout)
    cpu_ms = {"homework": told["cpu_s"] * 1e3, "broker": (spent.user + spent.system) * 1e3}
    return Cost(told["frames"], told["faces"], told["seconds"], cpu_ms)


def floor(video: Path, folder: Path) -> Cost:
    """Do the same work by bare calls, in a process of its own."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.floor", str(video), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    return Cost(told["frames"], told["faces"], told["seconds"], {"floor": told["cpu_s"] * 1e3})


def live(video: Path, folder: Path, seconds: float) -> dict[str, object]:
    """Play a clip as a camera of 30 frames a second; return rate, cost, memory and latency."""
    store = f"file://{folder / 'faces'}"
    with running(folder, (f"front={video.as_uri()}?loop=1",), store) as rig:
        while not rig.stored():
            time.sleep(0.1)
        time.sleep(2)
        before, faces_before = rig.usage(), len(rig.stored())
        time.sleep(seconds)
        after, latencies = rig.usage(), rig.stored()[faces_before:]
        log = (folder / "capture.log").read_text() + (folder / "detect.log").read_text()
    frames = seconds * 30
    return {
        "faces_per_s": round(len(latencies) / seconds, 1),
        "cpu_ms_a_frame": {
            part: round((after[part].cpu_s - before[part].cpu_s) * 1e3 / frames, 2) for part in PARTS
        },
        "resident_mb": {part: round(after[part].resident_bytes / 1e6) for part in PARTS},
        "latency_ms": {
            name: round(quantile(latencies, share) * 1e3, 1)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
        "dropped": log.count("frame_dropped"),
    }


def _cpu_s(server: S3Server | None) -> float:
    if server is None:
        return 0.0
    spent = psutil.Process(server.pid).cpu_times()
    return float(spent.user + spent.system)


def main() -> int:
    """Measure, print, and say whether the claims hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1920x1080 into a folder only")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    os.environ.setdefault("FACEFERRY_MODEL_DIR", str(SHARED / "models"))
    with tempfile.TemporaryDirectory(prefix="faceferry-") as scratch:
        results = _measure(Path(scratch), options.rounds, is_quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0 if _report(results) else 1


def _measure(scratch: Path, rounds: int, *, is_quick: bool) -> dict[str, object]:
    flat: defaultdict[str, list[Cost]] = defaultdict(list)
    s3 = None if is_quick else _s3_server(scratch)
    try:
        for size in ("1920x1080",) if is_quick else ("1920x1080", "640x480"):
            for number in range(rounds):
                for codec in ("mjpeg", "h264"):
                    video = clip(CROWD, codec, size)
                    here = scratch / f"{size}-{codec}-{number}"
                    key = f"{size} {codec}"
                    flat[f"{key} folder"].append(flat_out(video, here / "folder", None))
                    if s3 is not None:
                        flat[f"{key} s3"].append(flat_out(video, here / "s3", s3))
                    flat[f"{key} floor"].append(floor(video, here / "floor"))
                    flat[f"{key} homework"].append(homework(video, here / "homework"))
    finally:
        if s3 is not None:
            s3.kill()
    lives = {
        "one face a frame": live(clip(ONE_FACE, "mjpeg", "1920x1080"), scratch / "live-one", LIVE_S),
        "several faces a frame": live(clip(CROWD, "mjpeg", "1920x1080"), scratch / "live-many", LIVE_S),
    }
    return {
        "flat out": {
            name: {
                "frames": costs[0].frames,
                "faces": costs[0].faces,
                "frames_per_s": round(median([cost.frames / cost.seconds for cost in costs]), 1),
                "cpu_ms_a_frame": round(median([cost.cpu_ms_a_frame for cost in costs]), 2),
                "by_part": {
                    part: round(median([cost.cpu_ms[part] / cost.frames for cost in costs]), 2)
                    for part in costs[0].cpu_ms
                },
            }
            for name, costs in flat.items()
        },
        "live": lives,
    }


def _s3_server(scratch: Path) -> S3Server | None:
    builder = SHARED / "images" / "s3-server"
    program = os.environ.get("FACEFERRY_TEST_S3_SERVER") or (
        subprocess.run([builder], capture_output=True, text=True, check=True).stdout.strip()
        if builder.exists()
        else ""
    )
    if not program:
        print("no S3 server (FACEFERRY_TEST_S3_SERVER names one): left out")
        return None
    server = S3Server(program, scratch).start()
    server.create_bucket("bench")
    return server


def _report(results: dict[str, object]) -> bool:
    flat = results["flat out"]
    assert isinstance(flat, dict)
    print(f"{'':28}{'frames/s':>10}{'CPU ms/frame':>14}{'faces':>8}   by part")
    for name, row in flat.items():
        parts = " ".join(f"{part}={cost}" for part, cost in row["by_part"].items())
        print(f"{name:28}{row['frames_per_s']:>10}{row['cpu_ms_a_frame']:>14}{row['faces']:>8}   {parts}")
    print(json.dumps(results["live"], indent=1))
    is_fine = True
    for (codec, store), wanted in CLAIMS.items():
        ours = flat.get(f"1920x1080 {codec} {store}")
        theirs = flat[f"1920x1080 {codec} homework"]
        if ours is None:
            continue
        times_less = theirs["cpu_ms_a_frame"] / ours["cpu_ms_a_frame"]
        is_fine &= _claim(f"{codec} to {store}: times less CPU than the homework's way", times_less, wanted)
    ours, theirs = flat["1920x1080 mjpeg folder"], flat["1920x1080 mjpeg homework"]
    is_fine &= _claim("times the homework's faces", ours["faces"] / max(1, theirs["faces"]), 1.5)
    over = ours["cpu_ms_a_frame"] / flat["1920x1080 mjpeg floor"]["cpu_ms_a_frame"]
    is_fine &= _claim("times the floor's CPU (at most)", -over, -1.5)
    return is_fine


def _claim(what: str, value: float, least: float) -> bool:
    is_met = value >= least
    print(f"{'holds' if is_met else 'FAILS'}  {what}: {abs(value):.2f}, wanted {abs(least)}")
    return is_met


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    raise SystemExit(main())
