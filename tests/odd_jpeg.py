"""A JPEG whose colours are sampled as no interface of libjpeg-turbo has a name for, made by hand.

Blocks of one brightness each, so that a block is a difference and an end; codes of ITU-T T.81, annex K.3.
"""

import random
import struct

import cv2
import numpy as np

from services.common.images.jpeg import segments

_BRIGHTNESS_DC = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110")
_BRIGHTNESS_END, _COLOUR_ZERO, _COLOUR_END = "1010", "00", "00"
_FACTORS = (4, 2)
_STEP = 8  # of a mean's difference from 128, in the unit of a DC coefficient


def odd_jpeg(width: int = 128, height: int = 96, seed: int = 1) -> bytes:
    """Return a grey picture of random 8x8 blocks with the factors 4x2, 1x1, 1x1.

    Args:
        width: in pixels, a multiple of 32.
        height: a multiple of 16.
        seed: of its brightness.
    """
    chance = random.Random(seed)
    bits, before = "", 0
    for _ in range((width // 32) * (height // 16)):
        for _ in range(_FACTORS[0] * _FACTORS[1]):
            value = chance.randrange(-100, 101)
            bits += _difference(value - before) + _BRIGHTNESS_END
            before = value
        bits += 2 * (_COLOUR_ZERO + _COLOUR_END)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + _tables(width, height) + scan + b"\xff\xd9"


def _difference(value: int) -> str:
    size = abs(value).bit_length()
    if size == 0:
        return _BRIGHTNESS_DC[0]
    return _BRIGHTNESS_DC[size] + f"{value if value > 0 else value + 2**size - 1:0{size}b}"


def _tables(width: int, height: int) -> bytes:
    """Return the headers of a usual JPEG, with these quantisers, this size and these factors."""
    usual = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    headers = b""
    for marker, start, end in segments(usual):
        content = bytearray(usual[start:end])
        if marker == 0xDB:
            content[1:65] = bytes([_STEP]) * 64
        elif marker == 0xC0:
            content[1:5] = struct.pack(">HH", height, width)
            content[7] = _FACTORS[0] << 4 | _FACTORS[1]
        headers += bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content
    return headers
