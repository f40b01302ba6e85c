"""Images that would cost much to decode, and odd ones that do not."""

import cv2
import numpy as np
import pytest

from services.common.errors import Refused
from services.common.images.jpeg import MAX_SCANS, read_frame_header
from services.common.images.structure import ImageInfo, inspect, trim
from tests import bombs
from tests.bombs import before_scan, behind_start, chunk, flat, png, progressive, real_progressive, zeros

SMALL = real_progressive(64, 48)
THUMBNAIL = bombs.segment(0xE1, b"Exif\0\0MM\0*" + progressive(160, 120, 3))
WHOLE_PNG = png(64, 48, [zeros(48 * 193)])
PROFILE = b"a profile\0\0"
ENDLESS = zeros(400_000_000)

COSTLY = {
    "a thousand scans": (progressive(2000, 2000, 1_000), "too_many_scans"),
    "a real picture's last scan a hundred times": (bombs.with_scans(SMALL, 101), "too_many_scans"),
    "scans of an arithmetic coder": (
        progressive(2000, 2000, 1_000, marker=bombs.ARITHMETIC_PROGRESSIVE),
        "too_many_scans",
    ),
    "scans of one component each, again and again": (bombs.one_by_one(500, 500, 101), "too_many_scans"),
    "scans behind fill bytes": (
        progressive(64, 48, 1_000).replace(b"\xff\xda", b"\xff\xff\xff\xda"),
        "too_many_scans",
    ),
    "scans behind restart marks": (
        progressive(64, 48, 1_000).replace(b"\xff\xda", b"\xff\xd0\xff\xda"),
        "too_many_scans",
    ),
    "tables before each scan": (
        progressive(64, 48, 101).replace(b"\xff\xda", bombs.tables() + b"\xff\xda"),
        "too_many_scans",
    ),
    "64 megapixels of three components": (progressive(8000, 8000, 2), "too_much_to_decode"),
    "40 megapixels of four components": (progressive(8000, 5000, 2, [0x11] * 4), "too_much_to_decode"),
    "64 megapixels, one component at a time": (bombs.one_by_one(8000, 8000), "too_much_to_decode"),
    "64 megapixels without loss": (flat(8000, 8000, bombs.LOSSLESS), "too_much_to_decode"),
    "99 scans of 20 megapixels": (progressive(5000, 4000, 99), "too_much_to_decode"),
    "a PNG of 64 megapixels of 64 bits": (
        png(8000, 8000, [zeros(1_000)], depth=16, colour=6),
        "too_much_to_decode",
    ),
    "pixels that never end": (png(1000, 1000, [ENDLESS]), "too_much_to_decode"),
    "pixels that never end, in pieces": (
        png(1000, 1000, [ENDLESS[start : start + 999] for start in range(0, len(ENDLESS), 999)]),
        "too_much_to_decode",
    ),
    "a colour profile": (
        png(64, 48, [zeros(48 * 193)], notes=[chunk(b"iCCP", PROFILE + zeros(50_000_000))]),
        "too_much_to_decode",
    ),
    "many texts": (
        png(64, 48, [zeros(48 * 193)], notes=[chunk(b"zTXt", b"a\0\0" + zeros(1_000_000))] * 5),
        "too_much_to_decode",
    ),
    "an international text": (
        png(
            64,
            48,
            [zeros(48 * 193)],
            notes=[chunk(b"iTXt", b"title\0\1\0en\0the title\0" + zeros(50_000_000))],
        ),
        "too_much_to_decode",
    ),
    "texts that break off": (
        png(
            64, 48, [zeros(48 * 193)], notes=[chunk(b"zTXt", b"a\0\0" + zeros(4_000_000)[:-4] + b"bad!")] * 9
        ),
        "too_much_to_decode",
    ),
    "further pictures of an animation": (
        png(64, 48, [zeros(48 * 193)], notes=[chunk(b"acTL", bytes(8)), chunk(b"fdAT", zeros(1_000))]),
        "animated_image",
    ),
}
BROKEN = {
    "two frame headers": behind_start(SMALL, bombs.frame_header(bombs.BASELINE, 64, 48)),
    "frames upon frames": flat(64, 48, bombs.HIERARCHICAL)[:-2] + flat(64, 48)[2:],
    "a scan without a frame": bombs.START + bombs.scan([1], 0, 63) + bombs.END,
    "a frame without a scan": bombs.START + bombs.frame_header(bombs.BASELINE, 64, 48) + bombs.END,
    "a frame without components": bombs.START + bombs.frame_header(bombs.BASELINE, 64, 48, ()) + bombs.END,
    "ten components": bombs.START + bombs.frame_header(bombs.BASELINE, 64, 48, [0x11] * 10) + bombs.END,
    "a sampling factor of nothing": bombs.START
    + bombs.frame_header(bombs.BASELINE, 64, 48, [0x01])
    + bombs.END,
    "a scan of no components": before_scan(flat(64, 48), bombs.segment(0xDA, bytes([0, 0, 63, 0]))),
    "ten thousand empty segments": behind_start(flat(64, 48), bombs.segment(0xEF) * 10_001),
    "two million empty segments": bombs.START + bombs.segment(0xEF) * 2_000_000,
    "a PNG without pixels": png(64, 48, []),
    "a PNG with two headers": png(64, 48, [zeros(9)], notes=[WHOLE_PNG[8:33]]),
    "a PNG of colours that are none": png(64, 48, [zeros(9)], colour=5),
}
HARMLESS = {
    "ten scans": SMALL,
    "scans of every coefficient by itself": bombs.with_scans(SMALL, 65),
    "as many scans as are allowed": progressive(640, 480, MAX_SCANS),
    "16 megapixels in ten scans": progressive(4608, 3456, 10, [0x22, 0x11, 0x11]),
    "a thumbnail of several scans": behind_start(SMALL, THUMBNAIL),
    "a thumbnail beside JFIF, XMP, ICC and a maker's notes": behind_start(
        flat(64, 48),
        bombs.segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        THUMBNAIL,
        *[bombs.segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 9]) + bytes(60_000)) for n in range(1, 10)],
        bombs.segment(0xED, b"Photoshop 3.0\0" + bytes(1_000)),
    ),
    "a colour at a time": bombs.one_by_one(640, 480),
    "arithmetic coding": flat(64, 48, bombs.ARITHMETIC),
    "12 bits": flat(64, 48, bombs.EXTENDED, precision=12),
    "no loss": flat(64, 48, bombs.LOSSLESS),
    "a restart after each block": behind_start(flat(64, 48), bombs.segment(0xDD, b"\0\1")),
    "a restart after none": behind_start(flat(64, 48), bombs.segment(0xDD, b"\0\0")),
    "restart marks between segments": behind_start(flat(64, 48), b"\xff\xd3\xff\x01"),
    "the number of lines told late": before_scan(flat(64, 48), bombs.segment(0xDC, b"\0\x30")),
    "a PNG": WHOLE_PNG,
    "a PNG whose pixels have a little behind them": png(64, 48, [zeros(48 * 193 + 5_000)]),
    "an interlaced PNG": png(64, 48, [zeros(48 * 193 + 200)], interlaced=1),
    "a PNG with a profile and texts": png(
        64,
        48,
        [zeros(48 * 193)],
        notes=[
            chunk(b"iCCP", PROFILE + zeros(600_000)),
            chunk(b"zTXt", b"a\0\0" + zeros(9_000)),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x/>" * 20_000),
            chunk(b"iTXt", b""),
            chunk(b"zTXt", b"nothing"),
            chunk(b"tEXt", b"a\0b"),
        ],
    ),
}


def refusal(image: bytes) -> str:
    with pytest.raises(Refused) as caught:
        trim(image)
    return caught.value.reason


@pytest.mark.parametrize("kind", COSTLY)
def test_what_would_cost_its_viewer_is_refused_by_name(kind: str) -> None:
    image, reason = COSTLY[kind]
    assert refusal(image) == reason


@pytest.mark.parametrize("kind", BROKEN)
def test_what_no_decoder_takes_is_refused(kind: str) -> None:
    assert refusal(BROKEN[kind]) == "bad_image"


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_odd_and_costs_nothing_is_let_pass(kind: str) -> None:
    image = HARMLESS[kind]
    assert trim(image) == (image, inspect(image))
    assert inspect(image).width >= 64


def test_noise_in_a_large_png_is_no_bomb() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1_000, 1_500, 3), np.uint8)
    assert inspect(cv2.imencode(".png", noise)[1].tobytes()) == ImageInfo("image/png", 1_500, 1_000)


@pytest.mark.parametrize(
    ("factors", "samples"),
    [
        ([0x11], 104 * 56),
        ([0x11, 0x11, 0x11], 3 * 104 * 56),
        ([0x22, 0x11, 0x11], 112 * 64 * 3 // 2),
        ([0x41, 0x11, 0x11], 128 * 56 * 3 // 2),
        ([0x11, 0x44, 0x11, 0x11], 128 * 64 * 19 // 16),
    ],
)
def test_samples_are_those_of_whole_units(factors: list[int], samples: int) -> None:
    header = bombs.frame_header(bombs.BASELINE, 100, 50, factors)
    assert read_frame_header(bombs.BASELINE, header[4:]).samples == samples
