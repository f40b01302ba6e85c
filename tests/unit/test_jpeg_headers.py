"""What is read out of JPEGs' headers, against what OpenCV makes of them and against whatever may come."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.images.jpeg import (
    UPRIGHT,
    end_of_image,
    orientation,
    scan_start,
    segments,
    with_orientation,
)
from services.common.images.structure import trim

PIXELS = np.random.default_rng(3).integers(0, 255, (24, 40, 3), np.uint8)
JPEG = cv2.imencode(".jpg", PIXELS)[1].tobytes()
PROGRESSIVE = cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def exif(order: str, entries: list[tuple[int, int, int]], before: bytes = b"") -> bytes:
    """An Exif segment: entries of tag, type (3: short, 4: long) and value."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack(f"{order}HHI", tag, kind, 1)
        directory += struct.pack(order + ("H2x" if kind == 3 else "I"), value)
    content = b"Exif\0\0" + mark + struct.pack(f"{order}I", 8 + len(before)) + before + directory + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content


def size_of(jpeg: bytes) -> tuple[int, int]:
    _, info = trim(jpeg)
    return info.width, info.height


def beginning(*inserted: bytes, jpeg: bytes = JPEG) -> bytes:
    return jpeg[:2] + b"".join(inserted) + jpeg[2:]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_orientation_is_read_in_either_byte_order_and_type(order: str, turn: int) -> None:
    make = (0x010F, 3, 7)
    for kind in (3, 4):
        assert orientation(beginning(exif(order, [make, (0x0112, kind, turn), make], b"--"))) == turn


@pytest.mark.parametrize("turn", range(1, 9))
def test_what_is_written_is_read_again_by_us_and_by_opencv(turn: int) -> None:
    marked = with_orientation(JPEG, turn)
    assert orientation(marked) == turn
    assert (marked == JPEG) == (turn == UPRIGHT)
    plain = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    turned = cv2.imdecode(np.frombuffer(marked, np.uint8), cv2.IMREAD_COLOR)
    assert plain is not None
    assert turned is not None
    assert turned.shape[0] == (40 if turn >= 5 else 24)
    assert np.array_equal(plain, turned) == (turn == UPRIGHT)


def test_without_a_sensible_word_a_picture_is_upright() -> None:
    assert orientation(JPEG) == UPRIGHT
    for strange in ([], [(0x0112, 3, 0)], [(0x0112, 3, 9)], [(0x0112, 4, 2**31)], [(0x0100, 3, 6)]):
        assert orientation(beginning(exif(">", strange))) == UPRIGHT
    whole = exif("<", [(0x0112, 3, 6)])
    for end in range(4, len(whole) - 4):
        cut = b"\xff\xe1" + struct.pack(">H", end - 2) + whole[4:end]
        assert orientation(beginning(cut)) in (UPRIGHT, 6)


def test_a_thumbnails_headers_are_not_the_pictures() -> None:
    thumbnail = beginning(exif("<", [(0x0112, 3, 6)]))
    segment = b"\xff\xe2" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    assert orientation(beginning(segment)) == UPRIGHT
    assert size_of(beginning(segment)) == (40, 24)
    assert end_of_image(beginning(segment)) == len(JPEG) + len(segment)


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_picture_ends_at_its_end_mark_whatever_follows(jpeg: bytes) -> None:
    assert end_of_image(jpeg) == end_of_image(jpeg + JPEG) == end_of_image(jpeg + bytes(9)) == len(jpeg)
    assert end_of_image(jpeg[:-2]) is None
    assert end_of_image(jpeg[:200]) is None
    assert size_of(jpeg) == (40, 24)


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    assert size_of(beginning(b"\xff\xff\xff")) == (40, 24)


@given(
    st.binary(), st.sampled_from([b"", b"\xff\xd8", JPEG[:300], beginning(exif("<", [(0x0112, 3, 6)]))[:40]])
)
def test_nothing_that_comes_is_too_much(garbage: bytes, start: bytes) -> None:
    data = start + garbage
    assert 1 <= orientation(data) <= 8
    for found in (scan_start(data), end_of_image(data)):
        assert found is None or 0 < found <= len(data)
    assert all(4 < segment.start <= segment.end <= len(data) for segment in segments(data))
    assert with_orientation(data, 6)
