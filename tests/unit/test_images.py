import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.images import ImageInfo, inspect

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
