"""What finding faces costs: detect, `cv2.FaceDetectorYN`, and the original homework's Haar cascade.

    python -m benchmarks.detect [--frames 16] [--rounds 5] [--threads N]

Frames come from the clips with faces, 480x270: enlarged to 640x384, and as a wall of 16 for a wide scene of
1920x1080, with a little of the sensor noise that the clips' compression has removed. Each variant runs on
one thread and on all; OpenCV's own are off. The variants take turns, and for each frame the fastest round
counts, because other programs may run meanwhile. The floor is the least that any detector with this network
can take: decoding at the scale that it needs, and the bare network.
"""

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.report.alone import alone
from services.common.wire.frames import Frame
from services.common.wire.topics import Source
from services.detect import threads
from services.detect.boxes import Letterbox, padded
from services.detect.codec import BgrImage, JpegImage, encode_jpeg, resize
from services.detect.detectors import Detector, open_detector
from services.detect.haar import Haar
from services.detect.network import Network
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from tests.detect_clips import read_clip
from tests.rigs.clips import CROWD, VIDEOS
from tests.rigs.report.findings import Figure, Part, Table
from tests.support import SHARED

SMALL, LARGE = (640, 384), (1920, 1080)
REFERENCE_MODEL = "yunet_n_640_640.onnx"
"""OpenCV 4 cannot load the model with dynamic sides."""
OURS, CROPS, FLOOR = "ours", "ours, crops cut and encoded", "floor: decode, bare network"
REFERENCE, HAAR = "cv2.FaceDetectorYN", "homework: Haar, full frame"
OURS_ALONE, REFERENCE_ALONE = "inference alone: ours", "inference alone: FaceDetectorYN"
CENTERFACE_ALONE, HAAR_ALONE = "in YuNet's place: CenterFace alone", "in YuNet's place: Haar alone"
MOST_OF_FLOOR, LEAST_OF_REFERENCE, LEAST_FACES = 1.25, 2.5, 1.5

Way = Callable[[int], int]
"""Handles the frame of this index, returns how many faces it found."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a variant on a number of threads: frames a second, and faces found."""

    threads: int
    frames_per_s: float
    faces: int


Results = Mapping[str, Result]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--frames", type=int, default=16, help="frames of each size")
    parser.add_argument("--rounds", type=int, default=5, help="of so many the fastest counts")
    parser.add_argument("--threads", type=int, default=threads.usable_cores(), help="how many `all` is")


def measure(options: argparse.Namespace) -> Part:
    """Measure every variant on frames of both sizes."""
    cv2.setNumThreads(1)  # threads are counted here
    settings = DetectSettings.model_validate(
        {"device": "benchmark", "detector": "yunet", "providers": ("cpu",)}
    )
    clips = [picture for clip in CROWD for picture in read_clip(VIDEOS / clip)]
    found: dict[tuple[int, int], list[Results]] = {}
    second = settings.model_copy(update={"detector": "centerface"})
    with open_detector(settings) as detector, open_detector(second) as centerface:
        assert isinstance(detector, Network)
        for size in (SMALL, LARGE):
            jpegs = _jpegs(clips, options.frames, *size)
            ways = _ways(jpegs, detector, centerface, settings)
            counts = dict.fromkeys((1, options.threads))
            found[size] = [_compare(ways, len(jpegs), count, options.rounds) for count in counts]
    return Part(
        "detect",
        "Detect: against the usual detectors",
        figures=tuple(_figures(found)),
        tables=tuple(_table(f"{options.frames} frames of {w}x{h}", runs) for (w, h), runs in found.items()),
    )


def _jpegs(clips: Sequence[BgrImage], count: int, width: int, height: int) -> list[bytes]:
    """Return frames spread evenly over the clips, as JPEGs of this size."""
    noise = np.random.default_rng(5).normal(0, 2, (height, width, 3))
    make = _enlarged if width < 2 * clips[0].shape[1] else _wall
    pictures = [make(clips, index * len(clips) // count, width, height) for index in range(count)]
    return [encode_jpeg(np.clip(picture + noise, 0, 255).astype(np.uint8), 87) for picture in pictures]


def _enlarged(clips: Sequence[BgrImage], index: int, width: int, height: int) -> BgrImage:
    """Return a frame at this width, mirrored at the lower edge where the height is not reached."""
    frame = clips[index]
    scaled = resize(frame, width, round(frame.shape[0] * width / frame.shape[1]))
    missing = height - scaled.shape[0]
    return np.asarray(cv2.copyMakeBorder(scaled, 0, missing, 0, 0, cv2.BORDER_REFLECT), np.uint8)


def _wall(clips: Sequence[BgrImage], index: int, width: int, height: int) -> BgrImage:
    """Return frames side by side, unscaled, each some way further along the clips."""
    across, down = width // clips[0].shape[1], height // clips[0].shape[0]
    step = len(clips) // (across * down)
    tiles = [clips[(index + number * step) % len(clips)] for number in range(across * down)]
    rows = [np.hstack(tiles[row * across : (row + 1) * across]) for row in range(down)]
    return np.asarray(np.vstack(rows), np.uint8)


def _ways(
    jpegs: Sequence[bytes], detector: Network, centerface: Detector, settings: DetectSettings
) -> dict[str, Way]:
    first = JpegImage.open(jpegs[0])
    box = Letterbox.fit(first.width, first.height, settings.detection_size_px)
    pictures = [
        resize(JpegImage.open(each).decode(box.width, box.height), box.width, box.height) for each in jpegs
    ]
    source, noon = Source("benchmark", "clip"), datetime(2026, 1, 1, tzinfo=UTC)
    frames = [Frame(source, number, noon, jpeg) for number, jpeg in enumerate(jpegs)]
    pipeline, haar = Pipeline(detector, settings), Haar(0)
    canvas = np.zeros((1, 3, padded(box.height), padded(box.width)), np.float32)

    def floor(index: int) -> int:
        JpegImage.open(jpegs[index]).decode(box.width, box.height)
        detector.run(canvas)
        return 0

    ways: dict[str, Way] = {
        OURS: lambda index: len(pipeline.look(frames[index]).found),
        CROPS: lambda index: len(pipeline.find_faces(frames[index])),
        FLOOR: floor,
        HAAR: lambda index: len(haar.detect(_decode_with_opencv(jpegs[index]))),
        OURS_ALONE: lambda index: len(detector.detect(pictures[index])),
        CENTERFACE_ALONE: lambda index: len(centerface.detect(pictures[index])),
        HAAR_ALONE: lambda index: len(haar.detect(pictures[index])),
    }
    model = Path(os.environ.get("FACEFERRY_MODEL_DIR") or SHARED / "models") / REFERENCE_MODEL
    if model.is_file():
        find = _reference(model, settings.score_threshold)
        ways[REFERENCE] = lambda index: find(resize(_decode_with_opencv(jpegs[index]), box.width, box.height))
        ways[REFERENCE_ALONE] = lambda index: find(pictures[index])
    return ways


def _decode_with_opencv(jpeg: bytes) -> BgrImage:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _reference(model: Path, threshold: float) -> Callable[[BgrImage], int]:
    """Return a function that counts faces with `cv2.FaceDetectorYN`, one instance a thread."""
    local = threading.local()

    def find(picture: BgrImage) -> int:
        size = picture.shape[1], picture.shape[0]
        if not hasattr(local, "detector"):
            local.detector = cv2.FaceDetectorYN.create(str(model), "", size, threshold, 0.3, 5000)
        local.detector.setInputSize(size)
        faces = local.detector.detect(picture)[1]
        return 0 if faces is None else len(faces)

    return find


def _compare(ways: Mapping[str, Way], frames: int, count: int, rounds: int) -> Results:
    best_s = {name: [float("inf")] * frames for name in ways}
    faces = dict.fromkeys(ways, 0)
    with ThreadPoolExecutor(count) as pool:
        for way in ways.values():
            list(pool.map(way, range(min(frames, 2 * count))))  # warm up
        for _ in range(rounds):
            for name, way in ways.items():
                found = list(pool.map(partial(_timed, way), range(frames)))
                faces[name] = sum(number for number, _ in found)
                best_s[name] = [min(best, s) for best, (_, s) in zip(best_s[name], found, strict=True)]
    return {name: Result(count, count * frames / sum(best_s[name]), faces[name]) for name in ways}


def _timed(way: Way, index: int) -> tuple[int, float]:
    start = time.perf_counter()
    faces = way(index)
    return faces, time.perf_counter() - start


def _figures(found: Mapping[tuple[int, int], Sequence[Results]]) -> Iterator[Figure]:
    for (width, height), runs in found.items():
        for run in runs:
            where = f"{width}x{height}, {'one thread' if run is runs[0] else 'all threads'}"
            of_floor = _faster(run, FLOOR, OURS)
            yield Figure(f"time against the floor's, {where}", of_floor, "less", MOST_OF_FLOOR)
            if (width, height) == SMALL and REFERENCE_ALONE in run:
                name = f"inference rate against cv2.FaceDetectorYN's, {where}"
                yield Figure(name, _faster(run, OURS_ALONE, REFERENCE_ALONE), "more", LEAST_OF_REFERENCE)
            if (width, height) == LARGE:
                yield Figure(f"frame rate against Haar's, {where}", _faster(run, OURS, HAAR), "more")
    wide = found[LARGE][0]
    more = wide[OURS].faces / max(1, wide[HAAR].faces)
    yield Figure("faces found against Haar's, 1920x1080", more, "more", LEAST_FACES)


def _faster(run: Results, way: str, other: str) -> float:
    """Return the ratio of two variants' rates."""
    return run[way].frames_per_s / run[other].frames_per_s


def _table(title: str, runs: Sequence[Results]) -> Table:
    rows = tuple(
        (way, one.threads, one.frames_per_s, 1e3 * one.threads / one.frames_per_s, one.faces)
        for run in runs
        for way, one in run.items()
    )
    return Table(title, ("way", "threads", "frames/s", "ms a frame", "faces"), rows)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
