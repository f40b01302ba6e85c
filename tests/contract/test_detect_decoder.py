"""The process that decodes costly pictures: detect's threads go on beside it, and it may be slow or die."""

import asyncio
import signal
from collections.abc import AsyncIterator

import cv2
import numpy as np
import psutil
import pytest

from services.common.errors import Refused
from services.common.images.jpeg import with_orientation
from services.detect import codec, cutting
from services.detect.boxes import Detections, Letterbox
from services.detect.codec import JpegImage
from services.detect.cutting import CropStyle
from services.detect.decoder import Decoder
from tests import bombs
from tests.bombs import behind_start, flat, progressive
from tests.support import PATIENCE

SIZE_PX = 640
NOISE = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
LARGE = codec.encode_jpeg(np.asarray(cv2.resize(NOISE, (4800, 3600)), np.uint8), 85)
BOXES = np.array([[100, 200, 900, 1200], [3000.5, 2000.25, 400, 300], [-90, -90, 10, 10]], np.float32)
STYLE = CropStyle(margin=0.25, format="jpeg", quality=90, most_bytes=100_000)

BOMBS = {
    "a thousand scans": (progressive(2000, 2000, 1_000), "too_many_scans"),
    "a thousand scans behind a stray byte": (
        behind_start(progressive(2000, 2000, 1_000), b"\0"),
        "not_an_image",
    ),
    "99 scans of 20 megapixels": (progressive(5000, 4000, 99), "too_much_to_decode"),
    "64 megapixels of several scans": (progressive(8000, 8000, 2), "too_much_to_decode"),
    "64 megapixels, one component at a time": (bombs.one_by_one(8000, 8000), "too_much_to_decode"),
    "64 megapixels, arithmetic": (flat(8000, 8000, bombs.ARITHMETIC_PROGRESSIVE), "too_much_to_decode"),
    "65535 by 65535": (flat(65_535, 65_535), "bad_dimensions"),
    "two frame headers": (
        behind_start(progressive(3000, 3000, 99), bombs.frame_header(bombs.BASELINE, 64, 48)),
        None,
    ),
    "behind a cover": (bombs.hidden(progressive(3000, 3000, 99), flat(64, 48)), None),
    "frames upon frames": (flat(640, 480, bombs.HIERARCHICAL), None),
    "12 bits": (flat(640, 480, bombs.EXTENDED, precision=12), None),
    "garbage behind the start": (b"\xff\xd8\xff\xda" + bytes(range(256)) * 100, None),
}


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    async with Decoder(20).running() as one:
        yield one


async def refusal(decoder: Decoder, jpeg: bytes) -> str:
    with pytest.raises(Refused) as caught:
        await decoder.look(jpeg, SIZE_PX)
    return caught.value.reason


def worker() -> psutil.Process:
    [process] = [one for one in psutil.Process().children() if "decoder_process" in " ".join(one.cmdline())]
    return process


async def test_it_sees_and_cuts_what_a_thread_would(decoder: Decoder) -> None:
    look = await decoder.look(LARGE, SIZE_PX)
    jpeg = JpegImage.open(LARGE)
    assert look.letterbox == Letterbox.fit(4800, 3600, SIZE_PX)
    width, height = look.letterbox.width, look.letterbox.height
    assert np.array_equal(look.scaled, codec.resize(jpeg.decode(width, height), width, height))
    cuts = await decoder.cut(LARGE, Detections(BOXES), STYLE)
    assert cuts == [cutting.cut(jpeg.decode(), box, STYLE) for box in BOXES]
    assert [one is None for one in cuts] == [False, False, True]


@pytest.mark.parametrize("kind", BOMBS)
async def test_a_bomb_is_refused_and_the_next_picture_is_seen(decoder: Decoder, kind: str) -> None:
    jpeg, reason = BOMBS[kind]
    await decoder.look(LARGE, SIZE_PX)
    first = worker().pid
    found = await refusal(decoder, jpeg)
    assert found == reason if reason else found in {"bad_image", "truncated_image", "too_much_to_decode"}
    assert (await decoder.look(LARGE, SIZE_PX)).letterbox.source_width == 4800
    assert worker().pid == first


async def test_a_picture_that_takes_too_long_is_ended_with_its_process() -> None:
    async with Decoder(1.0 * PATIENCE).running() as decoder:
        await decoder.look(LARGE, SIZE_PX)
        hung = worker()
        hung.send_signal(signal.SIGSTOP)
        assert await refusal(decoder, LARGE) == "too_slow_to_decode"
        assert not hung.is_running()
        assert (await decoder.look(LARGE, SIZE_PX)).scaled.any()
    assert not any("decoder_process" in " ".join(one.cmdline()) for one in psutil.Process().children())


async def test_a_process_that_dies_takes_one_picture_along(decoder: Decoder) -> None:
    await decoder.look(LARGE, SIZE_PX)
    worker().send_signal(signal.SIGSTOP)
    asking = asyncio.create_task(refusal(decoder, LARGE))
    await asyncio.sleep(0.2)
    worker().kill()
    assert await asking == "decoder_died"
    assert (await decoder.look(LARGE, SIZE_PX)).scaled.any()


async def test_a_reply_to_a_cancelled_call_is_not_taken_for_the_next(decoder: Decoder) -> None:
    await decoder.look(LARGE, SIZE_PX)
    asking = asyncio.create_task(decoder.look(LARGE, SIZE_PX))
    await asyncio.sleep(0.005)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    small = flat(640, 480, bombs.ARITHMETIC)
    assert (await decoder.look(small, SIZE_PX)).letterbox.source_width == 640


async def test_its_memory_is_bounded_and_its_turn_comes_last(decoder: Decoder) -> None:
    """The largest pictures that are let pass need nearly all of it; turned and mirrored, more."""
    halved, one = (0x22, 0x11, 0x11), Detections(BOXES[:1])
    largest = progressive(8000, 8000, 3, halved)
    assert len(await decoder.cut(largest, one, STYLE)) == 1
    process = worker()
    assert process.nice() >= 10
    limit = process.rlimit(psutil.RLIMIT_DATA)[0]
    with pytest.raises(Refused, match="too_much_to_decode"):
        await decoder.cut(with_orientation(largest, 7), one, STYLE)
    await decoder.look(LARGE, SIZE_PX)
    assert worker() == process
    assert process.memory_info().rss < limit < 700_000_000


async def test_it_knows_no_passwords(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_LOCAL_MQTT_URL", "mqtt://somebody:secret@127.0.0.1")
    await decoder.look(LARGE, SIZE_PX)
    assert not [name for name in worker().environ() if name.startswith("FACEFERRY_")]
