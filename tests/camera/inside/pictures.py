"""Pictures for cameras to show, one a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

COUNT = 8


@dataclass(frozen=True, slots=True)
class Pictures:
    """Folders of pictures.

    Attributes:
        small: JPEGs of 640x480.
        other: others of that size.
        large: JPEGs of 1280x720.
        raw: 320x240 in YUYV.
    """

    small: Path
    other: Path
    large: Path
    raw: Path


def make(folder: Path) -> Pictures:
    """Write them."""
    return Pictures(
        _jpegs(folder / "small", 640, 480, seed=1),
        _jpegs(folder / "other", 640, 480, seed=2),
        _jpegs(folder / "large", 1280, 720, seed=3),
        _yuyv(folder / "raw", 320, 240),
    )


def contents(folder: Path) -> set[bytes]:
    """Return what the files of a folder hold."""
    return {path.read_bytes() for path in folder.iterdir()}


def _jpegs(folder: Path, width: int, height: int, seed: int) -> Path:
    folder.mkdir()
    for number, picture in enumerate(_scenes(width, height, seed)):
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 80, "BGR", "420")
        (folder / f"{number:02}.jpg").write_bytes(jpeg)
    return folder


def _yuyv(folder: Path, width: int, height: int) -> Path:
    folder.mkdir()
    for number, picture in enumerate(_scenes(width, height, 4)):
        pairs = np.full((height, width, 2), 128, np.uint8)
        pairs[..., 0] = picture[..., 0]
        (folder / f"{number:02}.yuv").write_bytes(pairs.tobytes())
    return folder


def _scenes(width: int, height: int, seed: int) -> Iterator["np.typing.NDArray[np.uint8]"]:
    """Yield pictures of coarse blocks, all different."""
    random = np.random.default_rng(seed)
    for _ in range(COUNT):
        blocks = random.integers(0, 255, (height // 40, width // 40, 3), np.uint8)
        yield blocks.repeat(40, 0).repeat(40, 1)
