import base64
import contextlib
import gzip
import io
import json
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.images import structure
from services.common.wire import bare_images
from tests.storing import jpeg, png

PIXELS = np.zeros((48, 64, 3), np.uint8)


def array_file() -> bytes:
    file = io.BytesIO()
    np.save(file, PIXELS)
    return file.getvalue()


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, PIXELS)[1].tobytes()


@pytest.mark.parametrize("image", [jpeg(), png()], ids=["jpeg", "png"])
@pytest.mark.parametrize(
    "written",
    [
        lambda image: image,
        base64.b64encode,
        base64.encodebytes,
        lambda image: base64.b64encode(image).rstrip(b"="),
        lambda image: b"\r\n" + base64.encodebytes(image).replace(b"\n", b"\r\n"),
        lambda image: b"data:image/jpeg;base64," + base64.b64encode(image),
        lambda image: b"data:IMAGE/svg+xml;base64,\n" + base64.b64encode(image),
        lambda image: base64.b64encode(image + b"\0\0"),
    ],
    ids=["plain", "base64", "lines", "no padding", "crlf", "data URI", "another type", "padded picture"],
)
def test_an_image_is_read_however_it_is_written(image: bytes, written: object) -> None:
    assert bare_images.read(written(image)) == (image, structure.inspect(image))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("empty", b""),
        ("text", b"test"),
        ("text", str(bytearray(jpeg())).encode()),
        ("json", json.dumps({"image": base64.b64encode(jpeg()).decode()}).encode()),
        ("json", json.dumps(list(jpeg())).encode()),
        ("json", json.dumps(base64.b64encode(jpeg()).decode()).encode()),
        ("pickle", pickle.dumps(jpeg())),
        ("pickle", pickle.dumps(PIXELS, protocol=2)),
        ("array", array_file()),
        ("webp", encoded(".webp")),
        ("bmp", encoded(".bmp")),
        ("tiff", encoded(".tiff")),
        ("gif", b"GIF89a" + bytes(20)),
        ("heif", b"\0\0\0\x1cftypavif" + bytes(20)),
        ("compressed", gzip.compress(jpeg())),
        ("base64", base64.b64encode(b"something else" * 10)),
        ("base64", base64.b64encode(jpeg())[:-3] + b"!!!"),
        ("base64", jpeg().hex().encode()),
        ("not_an_image", PIXELS.tobytes()),
        ("not_an_image", jpeg()[2:]),
        ("truncated_image", base64.b64encode(jpeg()[:-9])),
    ],
)
def test_what_is_no_image_is_called_what_it_is(kind: str, payload: bytes) -> None:
    with pytest.raises(Refused) as caught:
        bare_images.read(payload)
    assert caught.value.reason == kind


@given(st.one_of(st.binary(), st.binary().map(lambda data: b"/9j/" + data), st.text().map(str.encode)))
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(Refused):
        image, info = bare_images.read(payload)
        assert structure.inspect(image) == info


def test_the_topic_is_kept_as_a_header_can_carry_it() -> None:
    info = structure.inspect(jpeg())
    assert bare_images.describe("cam/T\u00fcr 1/faces", info) == {
        "framesize": f"{info.width}x{info.height}",
        "topic": "cam/T%C3%BCr 1/faces",
    }
    assert len(bare_images.describe("x" * 60_000, info)["topic"]) == bare_images.MAX_TOPIC
