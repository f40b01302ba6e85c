import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.images.structure import MAX_PADDING_BYTES, ImageInfo, inspect, trim

NOISE = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
JPEG = cv2.imencode(".jpg", NOISE)[1].tobytes()
PROGRESSIVE = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
RESTARTS = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes()
PNG = cv2.imencode(".png", NOISE)[1].tobytes()


def refusal(image: bytes) -> str:
    with pytest.raises(Refused) as caught:
        inspect(image)
    return caught.value.reason


@pytest.mark.parametrize("image", [JPEG, PROGRESSIVE, RESTARTS])
def test_jpeg_tells_its_size(image: bytes) -> None:
    assert inspect(image) == ImageInfo("image/jpeg", 64, 48)


def test_png_tells_its_size() -> None:
    assert inspect(PNG) == ImageInfo("image/png", 64, 48)


@pytest.mark.parametrize("image", [JPEG, PROGRESSIVE, RESTARTS, PNG])
def test_every_truncation_is_refused(image: bytes) -> None:
    assert {refusal(image[:end]) for end in range(len(image))} <= {"truncated_image", "not_an_image"}


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """The JPEG with further segments behind its start."""
    more = b"".join(bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2) + body for kind, body in segments)
    return JPEG[:2] + more + JPEG[2:]


def with_frame(kind: int, precision: int = 8) -> bytes:
    """The JPEG, its frame header claiming another process or precision."""
    start = JPEG.index(b"\xff\xc0")
    return (
        JPEG[:start]
        + bytes([0xFF, kind])
        + JPEG[start + 2 : start + 4]
        + bytes([precision])
        + JPEG[start + 5 :]
    )


ODD = {
    "a thumbnail in EXIF": with_segments((0xE1, b"Exif\0\0MM\0*" + JPEG)),
    "many segments of makers": with_segments(
        *[(0xE0 + n, b"maker" + bytes(n * 100)) for n in range(16)] * 20
    ),
    "a comment that looks like an end": with_segments((0xFE, b"\xff\xd9 not yet \xff\xd9")),
    "fill bytes before its markers": JPEG[:2] + b"\xff\xff\xff" + JPEG[2:-2] + b"\xff\xff\xff\xd9",
    "arithmetic coding": with_frame(0xC9),
    "lossless": with_frame(0xC3),
    "12 bits": with_frame(0xC1, 12),
}
BEHIND = {
    "a NUL": b"\0",
    "a buffer's rest": bytes(40_000),
    "fill bytes": b"\xff" * 512,
    "a line's end": b"\r\n",
    "all of it": b"\xff\r\n\0" * (MAX_PADDING_BYTES // 4),
}
MORE_BEHIND = {
    "another picture (MPF)": JPEG,
    "a film (motion photo)": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 100,
    "a maker's trailer": b"\x00\x00SEFH\x6b\x00\x00\x00SEFT",
    "a boundary": b"\r\n--frame\r\n",
    "more padding than is padding": bytes(MAX_PADDING_BYTES + 1),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_within_an_image_is_its_decoder_s_business(kind: str) -> None:
    assert inspect(ODD[kind]) == ImageInfo("image/jpeg", 64, 48)
    assert trim(ODD[kind] + b"\0") == (ODD[kind], ImageInfo("image/jpeg", 64, 48))


@pytest.mark.parametrize("kind", BEHIND)
@pytest.mark.parametrize("image", [JPEG, PROGRESSIVE, RESTARTS, PNG])
def test_padding_behind_the_end_is_let_pass_and_can_be_cut_off(image: bytes, kind: str) -> None:
    assert inspect(image + BEHIND[kind]) == inspect(image)
    assert trim(image + BEHIND[kind]) == (image, inspect(image))
    assert trim(image) == (image, inspect(image))


@pytest.mark.parametrize("kind", MORE_BEHIND)
@pytest.mark.parametrize("image", [JPEG, PROGRESSIVE, RESTARTS, PNG])
def test_more_than_padding_is_refused_unless_it_can_be_cut_off(image: bytes, kind: str) -> None:
    assert refusal(image + MORE_BEHIND[kind]) == "trailing_bytes"
    assert trim(image + MORE_BEHIND[kind]) == (image, inspect(image))


@pytest.mark.parametrize("image", [JPEG, PROGRESSIVE, PNG])
def test_an_image_without_an_end_is_refused_whatever_follows(image: bytes) -> None:
    for end in (len(image) - 2, len(image) // 2):
        with pytest.raises(Refused):
            trim(image[:end] + bytes(1_000))


@pytest.mark.parametrize("image", [JPEG, PROGRESSIVE, PNG])
def test_bytes_behind_the_end_are_refused(image: bytes) -> None:
    assert refusal(image + b"\0" * 1_000_000) == "trailing_bytes"
    assert refusal(image + image) == "trailing_bytes"


def test_absurd_dimensions_are_refused() -> None:
    header = JPEG.index(b"\xff\xc0")
    assert refusal(JPEG[: header + 5] + b"\xff\xff\xff\xff" + JPEG[header + 9 :]) == "bad_dimensions"
    assert refusal(JPEG[: header + 5] + b"\0\0\0\0" + JPEG[header + 9 :]) == "bad_dimensions"


def test_changed_png_is_refused() -> None:
    assert refusal(PNG[:100] + bytes([PNG[100] ^ 1]) + PNG[101:]) == "bad_image"


@given(st.binary(), st.sampled_from([b"", b"\xff\xd8\xff", PNG[:8], PNG[:33], JPEG[:200]]))
def test_garbage_is_refused_and_never_crashes(garbage: bytes, start: bytes) -> None:
    assert refusal(start + garbage)
