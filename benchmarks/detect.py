"""What finding faces costs: ours, `cv2.FaceDetectorYN`, and the original homework's Haar cascade.

    python -m benchmarks.detect [--frames 16] [--rounds 5] [--threads N]

Frames come from the clips with faces, 480x270: enlarged to 640x384, and as a wall of 16 for a wide scene of
1920x1080, with a little of the sensor noise that the clips' compression took away. Each way runs on one
thread and on all. The ways take turns, and of the rounds each frame's fastest counts, for other programs may
run beside. The floor is what no detector on this network can go below: decoding at the needed scale, and the
bare network.
"""

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import CROWD, VIDEOS
from benchmarks.report.alone import alone
from benchmarks.report.findings import Cell, Figure, Part, Table
from services.common.frames import Frame
from services.common.topics import Source
from services.detect import threads
from services.detect.boxes import Letterbox, padded
from services.detect.detectors import open_detector
from services.detect.haar import Haar
from services.detect.pictures import Jpeg, Picture, encode_jpeg, resize
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from services.detect.yunet import YuNet
from tests.support import SHARED

SIZES = ((640, 384), (1920, 1080))
REFERENCE_MODEL = "yunet_n_640_640.onnx"
"""OpenCV 4 cannot load the model with dynamic sides."""

OURS, CROPS, FLOOR = "ours", "ours, crops cut and encoded", "floor: decode, bare network"
REFERENCE, HAAR = "cv2.FaceDetectorYN", "homework: Haar, full frame"
OURS_ALONE, REFERENCE_ALONE = "inference alone: ours", "inference alone: FaceDetectorYN"

Way = Callable[[int], int]
"""Handles the frame of this index, returns how many faces it found."""


ABOUT = """\
Three clips with faces, 480x270, enlarged to 640x384, and 16 of their frames side by side as a wide scene
of 1920x1080: {frames} JPEGs of each size at quality 87, spread evenly over the clips, with noise from
seed 5. Each way runs on one thread and on all ({threads} here), on the processor alone; OpenCV's own
threads are off. The ways take turns, and of {rounds} rounds each frame's fastest counts. Decoding is
included, except where inference is measured alone. The floor is what no detector on this network can go
below: decoding at the scale that it needs, and the bare network. That every person in every frame of the
test clips is found, and nothing else, is not measured but tested (tests/system/test_up.py): 109 faces in
109 frames, 180 in 45, 123 in 41, 112 in 56, 0 in 201. No figures from a GPU yet."""
YUNET_LIMITS = """\
The bare network in ONNX Runtime takes about nine tenths of our time, so the figure is the ratio of the
two runtimes; on one machine it went from 2.2 to 3.3 with what else ran there."""
HAAR_LIMITS = """\
Decoding and the bare network alone take {floor_ms:.1f} ms here, so {bound:g} times even those needs a
Haar of {needed_ms:.0f} ms a frame; it took {haar_ms:.0f} ms. How long Haar takes depends on the machine
and on the detail in the picture."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one way did on frames of one size, on so many threads."""

    threads: int
    frames_per_s: float
    faces: int

    @property
    def frame_ms(self) -> float:
        """How long a frame took, in milliseconds."""
        return self.threads * 1000 / self.frames_per_s


Results = dict[str, Result]
"""By way."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen here."""
    parser.add_argument("--frames", type=int, default=16, help="frames of each size")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of so many times a frame is handled the fastest counts"
    )
    parser.add_argument("--threads", type=int, default=threads.usable_cores(), help="how many `all` is")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="where the clips are")
    default = Path(os.environ.get("FACEFERRY_MODEL_DIR") or SHARED / "models")
    parser.add_argument("--model-dir", type=Path, default=default, help="where the models are")


def measure(options: argparse.Namespace) -> Part:
    """Measure every way on frames of both sizes."""
    cv2.setNumThreads(1)  # threads are counted here
    settings = DetectSettings(
        device="benchmark",
        detector="yunet",
        providers=("cpu",),
        model_dir=options.model_dir,
    )
    figures: list[Figure] = []
    tables: list[Table] = []
    with open_detector(settings) as detector:
        assert isinstance(detector, YuNet)
        for width, height in SIZES:
            jpegs = _jpegs(options.videos, options.frames, width, height)
            ways = _ways(jpegs, detector, settings, options.model_dir / REFERENCE_MODEL)
            runs = [
                _compare(ways, len(jpegs), count, options.rounds)
                for count in dict.fromkeys((1, options.threads))
            ]
            tables.append(_table(f"{width}x{height}", jpegs, runs))
            figures += _figures(f"{width}x{height}", runs)
    about = ABOUT.format(frames=options.frames, threads=options.threads, rounds=options.rounds)
    return Part("detect", "Detect: against the usual detectors", about, tuple(figures), tuple(tables))


def _jpegs(videos: Path, count: int, width: int, height: int) -> list[bytes]:
    """Return frames spread evenly over the clips, as JPEGs of this size."""
    frames = [frame for clip in CROWD for frame in _read(videos / clip)]
    starts = [index * len(frames) // count for index in range(count)]
    noise = np.random.default_rng(5).normal(0, 2, (height, width, 3))
    if width < 2 * frames[0].shape[1]:
        pictures = [_enlarged(frames[start], width, height) for start in starts]
    else:
        pictures = [_wall(frames, start, width, height) for start in starts]
    return [encode_jpeg(np.clip(picture + noise, 0, 255).astype(np.uint8), 87) for picture in pictures]


def _read(path: Path) -> list[Picture]:
    video = cv2.VideoCapture(str(path))
    frames: list[Picture] = []
    while (answer := video.read())[0]:
        frames.append(np.asarray(answer[1], np.uint8))
    if not frames:
        raise SystemExit(f"{path} cannot be read: name the folder of the clips with --videos")
    return frames


def _enlarged(frame: Picture, width: int, height: int) -> Picture:
    """Return the frame at this width, mirrored at the lower edge where the height is not reached."""
    scaled = resize(frame, width, round(frame.shape[0] * width / frame.shape[1]))
    missing = height - scaled.shape[0]
    return np.asarray(cv2.copyMakeBorder(scaled, 0, missing, 0, 0, cv2.BORDER_REFLECT), np.uint8)


def _wall(frames: list[Picture], start: int, width: int, height: int) -> Picture:
    """Return frames side by side, unscaled, each some way further along the clips."""
    across, down = width // frames[0].shape[1], height // frames[0].shape[0]
    step = len(frames) // (across * down)
    tiles = [frames[(start + number * step) % len(frames)] for number in range(across * down)]
    rows = [np.hstack(tiles[row * across : (row + 1) * across]) for row in range(down)]
    return np.asarray(np.vstack(rows), np.uint8)


def _ways(jpegs: list[bytes], detector: YuNet, settings: DetectSettings, reference: Path) -> dict[str, Way]:
    first = Jpeg.open(jpegs[0])
    box = Letterbox.fit(first.width, first.height, settings.detection_size_px)
    pictures = [_at_size(jpeg, box.width, box.height) for jpeg in jpegs]
    pipeline, haar = Pipeline(detector, settings), Haar(0)
    canvas = np.zeros((1, 3, padded(box.height), padded(box.width)), np.float32)

    def floor(index: int) -> int:
        Jpeg.open(jpegs[index]).decode(box.width, box.height)
        detector.run(canvas)
        return 0

    ways: dict[str, Way] = {
        OURS: lambda index: len(pipeline.look(_frame(index, jpegs[index])).found),
        CROPS: lambda index: len(pipeline.find_faces(_frame(index, jpegs[index]))),
        FLOOR: floor,
        HAAR: lambda index: len(haar.detect(_decode_with_opencv(jpegs[index]))),
        OURS_ALONE: lambda index: len(detector.detect(pictures[index])),
    }
    if not reference.is_file():
        return ways
    find = _reference(reference, settings.score_threshold)
    return {
        **ways,
        REFERENCE: lambda index: find(
            resize(_decode_with_opencv(jpegs[index]), box.width, box.height),
        ),
        REFERENCE_ALONE: lambda index: find(pictures[index]),
    }


def _frame(index: int, jpeg: bytes) -> Frame:
    return Frame(Source("benchmark", "clip"), index, datetime(2026, 1, 1, tzinfo=UTC), jpeg)


def _at_size(jpeg: bytes, width: int, height: int) -> Picture:
    return resize(Jpeg.open(jpeg).decode(width, height), width, height)


def _decode_with_opencv(jpeg: bytes) -> Picture:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _reference(model: Path, threshold: float) -> Callable[[Picture], int]:
    """Return what counts faces with `cv2.FaceDetectorYN`, one instance a thread."""
    local = threading.local()

    def find(picture: Picture) -> int:
        size = picture.shape[1], picture.shape[0]
        if not hasattr(local, "detector"):
            local.detector = cv2.FaceDetectorYN.create(str(model), "", size, threshold, 0.3, 5000)
        local.detector.setInputSize(size)
        faces = local.detector.detect(picture)[1]
        return 0 if faces is None else len(faces)

    return find


def _compare(ways: dict[str, Way], frames: int, count: int, rounds: int) -> Results:
    best_s = {name: [float("inf")] * frames for name in ways}
    faces = dict.fromkeys(ways, 0)
    with ThreadPoolExecutor(count) as pool:
        for way in ways.values():
            list(pool.map(way, range(min(frames, 2 * count))))  # warm up
        for _ in range(rounds):
            for name, way in ways.items():
                found = list(pool.map(partial(_timed, way), range(frames)))
                faces[name] = sum(number for number, _ in found)
                pairs = zip(best_s[name], found, strict=True)
                best_s[name] = [min(best, seconds) for best, (_, seconds) in pairs]
    return {name: Result(count, count * frames / sum(best_s[name]), faces[name]) for name in ways}


def _timed(way: Way, index: int) -> tuple[int, float]:
    start = time.perf_counter()
    faces = way(index)
    return faces, time.perf_counter() - start


def _figures(size: str, runs: Sequence[Results]) -> Iterator[Figure]:
    for run in runs:
        where = f"{size}, {'one thread' if run is runs[0] else 'all threads'}"
        yield Figure(f"time against the floor's, {where}", _faster(run, FLOOR, OURS), "less", 1.25)
        if size == "640x384" and REFERENCE_ALONE in run:
            faster = _faster(run, OURS_ALONE, REFERENCE_ALONE)
            name = f"inference rate against cv2.FaceDetectorYN's, {where}"
            yield Figure(name, faster, "more", 2.5, limits=YUNET_LIMITS)
        if size == "1920x1080":
            yield _against_haar(where, run)
    if size == "1920x1080":
        more = runs[0][OURS].faces / max(1, runs[0][HAAR].faces)
        yield Figure(f"faces found against Haar's, {size}", more, "more", 1.5)


def _against_haar(where: str, run: Results, bound: float = 25.0) -> Figure:
    floor_ms = run[FLOOR].frame_ms
    limits = HAAR_LIMITS.format(
        floor_ms=floor_ms, bound=bound, needed_ms=bound * floor_ms, haar_ms=run[HAAR].frame_ms
    )
    return Figure(
        f"frame rate against Haar's, {where}", _faster(run, OURS, HAAR), "more", bound, limits=limits
    )


def _faster(run: Results, way: str, other: str) -> float:
    """Return how many times the rate of the other a way has."""
    return run[way].frames_per_s / run[other].frames_per_s


def _table(size: str, jpegs: Sequence[bytes], runs: Sequence[Results]) -> Table:
    kib = sum(map(len, jpegs)) // len(jpegs) // 1024
    rows = tuple(_row(way, result) for run in runs for way, result in run.items())
    remark = "" if REFERENCE in runs[0] else f"`cv2.FaceDetectorYN` is left out: no {REFERENCE_MODEL} here."
    columns = ("way", "threads", "frames/s", "ms a frame", "faces")
    return Table(f"{len(jpegs)} frames of {size}, JPEGs of {kib} KiB", columns, rows, remark)


def _row(way: str, result: Result) -> tuple[Cell, ...]:
    faces = None if way == FLOOR else result.faces
    return way, result.threads, result.frames_per_s, result.frame_ms, faces


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
