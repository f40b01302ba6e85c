"""A camera sends malicious pictures to a real detect: other cameras lose nothing by it."""

import asyncio
import itertools
import signal
import statistics
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from services.common.images.structure import inspect
from services.common.wire.faces import Face
from services.detect import codec
from services.detect.codec import JpegImage
from tests import bombs
from tests.bombs import behind_start, flat, progressive
from tests.detect_clips import frame
from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.system.test_detect import Driver, Start, book, live, ready, start

__all__ = ["book", "start"]

MOST_BYTES = 1024 * 1024 * 1024
"""What compose lets detect have (compose/edge/compose.yaml)."""
QUICKLY_S = 5.0
"""Most are answered within milliseconds; the first one waits for a process to start, on whatever machine."""

BOMBS = {
    "a thousand scans": progressive(8000, 8000, 1_000, [0x11]),
    "a thousand scans of little": progressive(16, 16, 1_000),
    "a thousand scans, cut short": progressive(8000, 8000, 1_000, [0x11])[:-2],
    "a thousand scans behind a second frame header": behind_start(
        progressive(8000, 8000, 1_000, [0x11]), bombs.frame_header(bombs.BASELINE, 64, 48)
    ),
    "coefficients of 64 megapixels": progressive(8000, 8000, 2),
    "64 megapixels, one component at a time": bombs.one_by_one(8000, 8000),
    "64 megapixels, arithmetic": flat(8000, 8000, bombs.ARITHMETIC_PROGRESSIVE),
    "20 megapixels in 99 scans": progressive(5000, 4000, 99),
    "behind a cover": bombs.hidden(progressive(8000, 8000, 100, [0x11]), flat(64, 48)),
    "65535 by 65535": flat(65_535, 65_535),
}
REASONS = {"too_many_scans", "too_much_to_decode", "bad_dimensions", "bad_image", "truncated_image"}
DEAR = {
    "eight million bytes of nothing": bombs.START + bombs.segment(0xEF) * 2_000_000 + flat(64, 48)[2:],
    "16 megapixels": flat(4608, 3456)[:-2] + bytes(100_000) + bombs.END,
    "64 megapixels": flat(8000, 8000),
    "64 megapixels of arithmetic": flat(8000, 8000, bombs.ARITHMETIC),
    "64 megapixels in three scans": progressive(8000, 8000, 3, [0x22, 0x11, 0x11]),
    "12 megapixels in 50 scans": progressive(4000, 3000, 50, [0x22, 0x11, 0x11]),
    "4K in ten scans": progressive(3840, 2160, 10, [0x22, 0x11, 0x11]),
}
"""These are within the bounds: they may be looked at, and that costs."""


def resident_bytes(process: ServiceProcess) -> int:
    """What a service and its processes hold."""
    whole = psutil.Process(process.pid)
    return sum(one.memory_info().rss for one in [whole, *whole.children(recursive=True)])


def decoder_of(process: ServiceProcess) -> psutil.Process:
    [decoder] = psutil.Process(process.pid).children()
    return decoder


def box_of(face: Face) -> npt.NDArray[np.int64]:
    return np.array(face.extensions["box"].split(","), np.int64)


def enlarged(jpeg: bytes, by: int) -> bytes:
    small = JpegImage.open(jpeg).decode()
    height, width = small.shape[:2]
    return codec.encode_jpeg(codec.resize(small, by * width, by * height), 80)


@pytest.mark.parametrize("kind", BOMBS)
async def test_a_bomb_is_answered_with_a_reason_at_once(
    start: Start, broker: MosquittoServer, book: list[bytes], kind: str
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(60):
        await ready(process)
        driver.send(live(flat(5000, 4000), 0, camera="large"))
        await eventually(lambda: driver.answers("large"))
        began_s = time.monotonic()
        driver.send(frame(BOMBS[kind], 1, "attacker"))
        await eventually(lambda: driver.answers("attacker"))
        assert driver.answers("attacker")[1].dropped in REASONS
        assert time.monotonic() - began_s < QUICKLY_S
        driver.send(live(book[0], 2))
        await eventually(driver.answers)
        assert driver.answers()[2].faces
    assert process.stop() == 0


async def test_memory_stays_within_what_the_container_has(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    """Each camera sends another one as soon as the last is answered."""
    process = start(threads="3")
    faces = [enlarged(book[0], by) for by in (9, 10, 12)]
    jpegs = [jpeg for jpeg in [*BOMBS.values(), *DEAR.values(), *faces] for _ in range(2)]
    async with Driver(broker.url).running() as driver, asyncio.timeout(120):
        await ready(process)
        playing = asyncio.gather(*(driver.play(jpegs[n::4], f"attacker{n}", window=2) for n in range(4)))
        most = 0
        while not playing.done():
            most = max(most, resident_bytes(process))
            await asyncio.sleep(0.02)
        assert most < MOST_BYTES
        await driver.play(book[:3])
    assert process.stop() == 0


async def test_one_camera_s_slow_pictures_leave_every_worker_to_the_others(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    """While the process that decodes them hangs; it is ended and replaced, and detect goes on."""
    process = start(threads="1", decode_timeout_s="3")
    large = flat(6000, 4000)
    async with Driver(broker.url).running() as driver, asyncio.timeout(60):
        await ready(process)
        driver.send(live(large, 0, camera="attacker"))
        await eventually(lambda: driver.answers("attacker"))
        assert driver.answers("attacker")[0].dropped is None
        hung = decoder_of(process)
        hung.send_signal(signal.SIGSTOP)
        driver.send(live(large, 1, camera="attacker"))
        for number in range(10):
            driver.send(live(book[number], number))
            await eventually(lambda: number in driver.answers())  # noqa: B023
            assert driver.answers()[number].faces
        assert 1 not in driver.answers("attacker")
        await eventually(lambda: 1 in driver.answers("attacker"))
        assert driver.answers("attacker")[1].dropped == "too_slow_to_decode"
        assert not hung.is_running()
        driver.send(live(large, 2, camera="attacker"))
        await eventually(lambda: 2 in driver.answers("attacker"))
        assert driver.answers("attacker")[2].dropped is None
        assert decoder_of(process).pid != hung.pid
        assert process.metric("faceferry_detect_frames_dropped_total") == 1
    assert process.stop() == 0


async def test_a_face_in_a_very_large_picture_is_found_and_cut(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    large = enlarged(book[0], 12)
    async with Driver(broker.url).running() as driver, asyncio.timeout(60):
        await ready(process)
        driver.send(frame(large, 1, "large"))
        driver.send(frame(book[0], 1, "small"))
        await eventually(lambda: driver.answers("large") and driver.answers("small"))
        faces = {face.source.camera: face for face in driver.faces}
        assert faces["large"].extensions["framesize"] == "{0.width}x{0.height}".format(inspect(large))
        box, other = (box_of(faces[name]) for name in ("large", "small"))
        assert np.abs(box - 12 * other).max() < 12 * 4
        assert decoder_of(process).is_running()
        assert inspect(faces["large"].image).width > 12 * other[2]


ATTACKS = {
    "a thousand scans of 64 megapixels": BOMBS["a thousand scans"],
    "coefficients of 64 megapixels": BOMBS["coefficients of 64 megapixels"],
    "50 scans of 12 megapixels, which is allowed": DEAR["12 megapixels in 50 scans"],
    "16 megapixels, which is light": flat(4608, 3456),
    "4K in ten scans, which is light": DEAR["4K in ten scans"],
}
ROUNDS, CAMERAS, FRAMES_PER_S, SETTLE_S, MEASURE_S = 3, 3, 5.0, 2.0, 6.0


@pytest.mark.proof
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ATTACKS)
async def test_other_cameras_keep_nine_tenths_of_their_rate_under_attack(
    start: Start, broker: MosquittoServer, book: list[bytes], kind: str
) -> None:
    """By the median of some rounds, each beside one without the attack."""
    process = start()
    numbers = itertools.count()
    async with Driver(broker.url).running() as driver, asyncio.timeout(280):
        await ready(process)
        kept = []
        for _ in range(ROUNDS):
            calm = await looked_at_per_s(driver, book, numbers)
            attacking = asyncio.create_task(attack(driver, ATTACKS[kind], numbers))
            kept.append(await looked_at_per_s(driver, book, numbers) / calm)
            attacking.cancel()
        assert statistics.median(kept) >= 0.9, kept


async def attack(driver: Driver, jpeg: bytes, numbers: Iterator[int]) -> None:
    while True:
        driver.send(live(jpeg, next(numbers), camera="attacker"))
        await asyncio.sleep(0.05)


async def looked_at_per_s(driver: Driver, book: list[bytes], numbers: Iterator[int]) -> float:
    """Frames of all cameras together, a second; each has four unanswered at most, as capture does."""
    for seconds in (SETTLE_S, MEASURE_S):
        before, until_s = looked_at(driver), time.monotonic() + seconds
        sent: dict[str, dict[int, float]] = {f"camera{number}": {} for number in range(CAMERAS)}
        while (now_s := time.monotonic()) < until_s:
            for camera, times in sent.items():
                answers = driver.answers(camera)
                if sum(now_s - at_s < 2 for number, at_s in times.items() if number not in answers) < 4:
                    times[number := next(numbers)] = now_s
                    driver.send(live(book[number % len(book)], number, camera=camera))
            await asyncio.sleep(1 / FRAMES_PER_S)
    return (looked_at(driver) - before) / MEASURE_S


def looked_at(driver: Driver) -> int:
    return sum(done.dropped is None and done.source.camera != "attacker" for done in driver.dones)
