"""Which frames are decoded beside the others, and which apart from them."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.detect.decode_cost import check_cost, is_cheap
from tests import bombs
from tests.bombs import before_scan, behind_start, flat, progressive, real_progressive
from tests.odd_jpeg import odd_jpeg

HALVED = [0x22, 0x11, 0x11]
NOISE = np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8)
JPEG = cv2.imencode(".jpg", NOISE)[1].tobytes()
BOMB = progressive(3000, 3000, 90)

CHEAP = {
    "what most cameras send": JPEG,
    "16 megapixels": flat(4608, 3456),
    "grey": cv2.imencode(".jpg", NOISE[:, :, 0])[1].tobytes(),
    "restarts": cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes(),
    "an odd sampling": odd_jpeg(128, 96),
    "a driver's notes": behind_start(JPEG, bombs.segment(0xE0, b"AVI1\0"), bombs.segment(0xFE, b"hello")),
    "a bomb as a thumbnail": behind_start(
        JPEG, bombs.segment(0xE1, b"Exif\0\0" + progressive(1000, 1000, 50))
    ),
    "fill bytes": behind_start(JPEG, b"\xff\xff\xff"),
    "no end": JPEG[:-2],
    "half of it": JPEG[: len(JPEG) // 2],
    "padding behind its end": JPEG + bytes(4_096),
    "1080p in ten scans": progressive(1920, 1080, 10, HALVED),
    "4K in ten scans": progressive(3840, 2160, 10, HALVED),
    "a real encoder's ten scans": real_progressive(),
    "nothing": b"",
    "no picture": b"\x89PNG\r\n\x1a\n" + BOMB,
    "no scan": progressive(3000, 3000, 90).replace(b"\xff\xda", b"\xff\xfe"),
}
COSTLY = {
    "20 megapixels": flat(5184, 3888),
    "many scans": BOMB,
    "a thousand scans of little": progressive(16, 16, 1_000),
    "many scans, one component at a time": bombs.one_by_one(2000, 2000, 90),
    "arithmetic coding": flat(640, 480, bombs.ARITHMETIC),
    "no loss": flat(640, 480, bombs.LOSSLESS),
    "12 bits": flat(640, 480, bombs.EXTENDED, precision=12),
    "frames upon frames": flat(640, 480, bombs.HIERARCHICAL),
    "a second frame header": behind_start(BOMB, bombs.frame_header(bombs.BASELINE, 64, 48)),
    "a bomb behind a cover": bombs.hidden(progressive(3000, 3000, 50), flat(64, 48)),
    "a bomb behind a stray byte": behind_start(BOMB, b"\0"),
    "a bomb behind a segment of an unknown kind": behind_start(BOMB, bombs.segment(0xF0)),
    "a bomb behind a thousand segments": behind_start(BOMB, bombs.segment(0xEF) * 1_001),
    "a bomb whose first scan is cut short": before_scan(BOMB, b"\xff\xda"),
    "a frame header that is too long": behind_start(BOMB, bombs.segment(bombs.BASELINE, bytes(40))),
}


@pytest.mark.parametrize("kind", CHEAP)
def test_what_cameras_send_is_cheap_to_decode(kind: str) -> None:
    assert is_cheap(CHEAP[kind])


@pytest.mark.parametrize("kind", COSTLY)
def test_what_costs_much_or_leaves_doubt_is_costly(kind: str) -> None:
    assert not is_cheap(COSTLY[kind])


@given(st.binary(), st.sampled_from([b"", b"\xff\xd8\xff", JPEG[:300], BOMB[:300], BOMB[:20]]))
def test_whatever_comes_is_one_or_the_other(garbage: bytes, start: bytes) -> None:
    assert is_cheap(start + garbage) in (True, False)


@pytest.mark.parametrize(
    ("jpeg", "reason"),
    [
        (progressive(16, 16, 1_000), "too_many_scans"),
        (behind_start(progressive(16, 16, 1_000), b"\0"), "too_many_scans"),
        (progressive(16, 16, 1_000)[:-2], "too_many_scans"),
        (behind_start(BOMB, b"\0"), "too_much_to_decode"),
        (BOMB[:-2], "too_much_to_decode"),
    ],
)
def test_a_bomb_is_known_however_broken_it_is(jpeg: bytes, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        check_cost(jpeg, 3000, 3000)
    assert caught.value.reason == reason


def test_what_is_broken_and_costs_little_is_tried() -> None:
    check_cost(behind_start(real_progressive(), b"\0"), 640, 480)
    check_cost(JPEG[:-2], 128, 96)
    check_cost(JPEG + JPEG, 128, 96)
