"""What finding faces costs: ours, `cv2.FaceDetectorYN`, and the original homework's Haar cascade.

    python -m benchmarks.detect [--frames 16] [--rounds 5] [--threads N] [--json]

Frames come from the clips with faces, 480x270: enlarged to 640x384, and as a wall of 16 for a wide scene of
1920x1080, with a little of the sensor noise that the clips' compression took away. Each way runs on one
thread and on all. The ways take turns, and of the rounds each frame's fastest counts, for other programs may
run beside. The floor is what no detector on this network can go below: decoding at the needed scale, and the
bare network. Ends with status 1 if a claim does not hold.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np

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

SHARED = Path(__file__).parents[2] / "shared"
CLIPS = (
    "classroom.mp4",
    "face-demographics-walking-and-pause.mp4",
    "head-pose-face-detection-female-and-male.mp4",
)
SIZES = ((640, 384), (1920, 1080))
REFERENCE_MODEL = "yunet_n_640_640.onnx"
"""OpenCV 4 cannot load the model with dynamic sides."""

OURS, CROPS, FLOOR = "ours", "ours, crops cut and encoded", "floor: decode, bare network"
REFERENCE, HAAR = "cv2.FaceDetectorYN", "homework: Haar, full frame"
OURS_ALONE, REFERENCE_ALONE = "inference alone: ours", "inference alone: FaceDetectorYN"

Way = Callable[[int], int]
"""Handles the frame of this index, returns how many faces it found."""


@dataclass(frozen=True)
class Figure:
    """What one way did on frames of one size."""

    way: str
    size: str
    threads: int
    frames_per_s: float
    faces: int


@dataclass(frozen=True)
class Claim:
    """A ratio that the project promises, and what it was."""

    text: str
    ratio: float
    limit: float
    is_ceiling: bool = False

    @property
    def holds(self) -> bool:
        """Whether the ratio is on the right side of its limit."""
        return self.ratio <= self.limit if self.is_ceiling else self.ratio >= self.limit


def main() -> int:
    """Print the figures and the claims; return the exit status."""
    options = _options()
    cv2.setNumThreads(1)  # threads are counted here
    settings = DetectSettings(
        device="benchmark",
        detector="yunet",
        providers=("cpu",),
        model_dir=options.model_dir,
    )
    figures: list[Figure] = []
    with open_detector(settings) as detector:
        assert isinstance(detector, YuNet)
        for width, height in SIZES:
            jpegs = _jpegs(options.videos, options.frames, width, height)
            weight = sum(map(len, jpegs)) // len(jpegs) // 1024
            _say(f"\n{len(jpegs)} frames of {width}x{height}, JPEG of {weight} KiB, decode included\n")
            ways = _ways(jpegs, detector, settings, options.model_dir / REFERENCE_MODEL)
            for count in dict.fromkeys((1, options.threads)):
                found = _compare(ways, len(jpegs), f"{width}x{height}", count, options.rounds)
                figures += found
                _show(found)
    claims = _claims(figures)
    for claim in claims:
        sign = "<=" if claim.is_ceiling else ">="
        _say(f"{'holds' if claim.holds else 'FAILS'}  {claim.text}: {claim.ratio:.2f} ({sign} {claim.limit})")
    if options.json:
        _say(json.dumps({"figures": [asdict(each) for each in figures], "claims": [*map(asdict, claims)]}))
    return 0 if all(claim.holds for claim in claims) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=16, help="frames of each size")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of so many times a frame is handled the fastest counts"
    )
    parser.add_argument("--threads", type=int, default=threads.usable_cores(), help="how many `all` is")
    parser.add_argument("--videos", type=Path, default=SHARED / "data" / "video", help="where the clips are")
    default = Path(os.environ.get("FACEFERRY_MODEL_DIR") or SHARED / "models")
    parser.add_argument("--model-dir", type=Path, default=default, help="where the models are")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object on the last line")
    return parser.parse_args()


def _jpegs(videos: Path, count: int, width: int, height: int) -> list[bytes]:
    """Return frames spread evenly over the clips, as JPEGs of this size."""
    frames = [frame for clip in CLIPS for frame in _read(videos / clip)]
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
        OURS: lambda index: len(pipeline.detect(Jpeg.open(jpegs[index]))[0]),
        CROPS: lambda index: len(pipeline.find_faces(_frame(index, jpegs[index]))),
        FLOOR: floor,
        HAAR: lambda index: len(haar.detect(_decode_with_opencv(jpegs[index]))),
        OURS_ALONE: lambda index: len(detector.detect(pictures[index])),
    }
    if not reference.is_file():
        _say(f"{reference} is missing: cv2.FaceDetectorYN is left out")
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


def _compare(ways: dict[str, Way], frames: int, size: str, count: int, rounds: int) -> list[Figure]:
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
    return [Figure(name, size, count, count * frames / sum(best_s[name]), faces[name]) for name in ways]


def _timed(way: Way, index: int) -> tuple[int, float]:
    start = time.perf_counter()
    faces = way(index)
    return faces, time.perf_counter() - start


def _claims(figures: list[Figure]) -> list[Claim]:
    by_name = {(each.way, each.size, each.threads): each for each in figures}
    claims = []
    for each in figures:
        where = f"{each.size}, threads {each.threads}"

        def of(way: str, like: Figure = each) -> Figure | None:
            return by_name.get((way, like.size, like.threads))

        ours, haar, floor, reference = of(OURS), of(HAAR), of(FLOOR), of(REFERENCE_ALONE)
        if each is ours and floor is not None and haar is not None:
            gap = floor.frames_per_s / each.frames_per_s
            claims.append(Claim(f"gap to the floor, {where}", gap, 1.25, is_ceiling=True))
            if each.size == "1920x1080":
                faster, more = each.frames_per_s / haar.frames_per_s, each.faces / max(1, haar.faces)
                claims.append(Claim(f"frame rate against Haar, {where}", faster, 25))
                claims.append(Claim(f"faces against Haar, {where}", more, 1.5))
        if each.way == OURS_ALONE and each.size == "640x384" and reference is not None:
            faster = each.frames_per_s / reference.frames_per_s
            claims.append(Claim(f"inference rate against FaceDetectorYN, {where}", faster, 2.5))
    return claims


def _show(figures: list[Figure]) -> None:
    for each in figures:
        rate, each_ms = (
            f"{each.frames_per_s:8.1f} frames/s",
            f"{each.threads * 1000 / each.frames_per_s:7.2f} ms",
        )
        _say(f"  {each.way:34} {each.threads:2} thread(s) {rate} {each_ms} a frame {each.faces:5} faces")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
