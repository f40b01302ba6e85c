"""Cameras that answer each question with one picture, as processes see them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import simplejpeg

from services.capture.cameras import parse_camera
from services.capture.check import check_source
from services.capture.source.facts import SourceFacts
from services.capture.source.ffmpeg import find_ffmpeg
from services.capture.source.http_address import HttpAddress, HttpKind, NoSnapshot
from services.capture.source.recording import ask_http_kind
from services.capture.source.snapshots import fetch, poll
from services.common.errors import SetupError
from tests.capture_rig import CaptureProcess, Detector
from tests.storing import jpeg
from tests.support import MosquittoServer, eventually
from tests.webcam import DIALECTS, MORE_DIALECTS, PASSWORD, USER, Webcam, serving

LOGIN = f"{USER}:{quote(PASSWORD, safe='')}"


@pytest.fixture
def webcam() -> Iterator[Webcam]:
    with serving(jpeg()) as webcam:
        yield webcam


@contextlib.asynccontextmanager
async def capturing(
    folder: Path, broker: MosquittoServer, url: str, **settings: object
) -> AsyncIterator[tuple[CaptureProcess, Detector]]:
    async with Detector(broker.url) as detector:
        await detector.wait_up()
        capture = CaptureProcess(folder, broker.url, f"a={url}", **settings)
        try:
            yield capture, detector
        finally:
            capture.kill()


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/snap", ""),
        ("/cgi-bin/snapshot.cgi?channel=1&subtype=0&x=a%20b", ""),
        ("/a b.jpg", ""),
        ("/moved", ""),
        ("/slow", ""),
        ("/wordless", ""),
        ("/basic", LOGIN),
        ("/digest", LOGIN),
        ("/digest-sha256", LOGIN),
    ],
)
async def test_an_address_that_gives_one_picture_is_known_and_asked_as_the_camera_wants_it(
    webcam: Webcam, path: str, user: str
) -> None:
    url = webcam.url(path, user=user)
    assert await ask_http_kind(parse_camera(f"a={url}"), SourceFacts(find_ffmpeg()), 20) is HttpKind.SNAPSHOT
    assert await asyncio.to_thread(fetch, HttpAddress(url)) == webcam.picture
    assert path.replace(" ", "%20") in webcam.asked


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/stream", HttpKind.MULTIPART),
        ("/raw", HttpKind.STREAM),
        ("/page", HttpKind.STREAM),
        ("/gone", HttpKind.STREAM),
        ("/basic", HttpKind.STREAM),
    ],
)
async def test_anything_else_is_left_to_ffmpeg(webcam: Webcam, path: str, answer: HttpKind) -> None:
    camera = parse_camera(f"a={webcam.url(path)}")
    assert await ask_http_kind(camera, SourceFacts(find_ffmpeg()), 20) is answer


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/gone", "HTTP 404"),
        ("/basic", "HTTP 401"),
        ("/page", "text/html"),
        ("/stream", "stream"),
        ("/cut", "too early"),
    ],
)
def test_what_is_no_picture_is_said(webcam: Webcam, path: str, said: str) -> None:
    with pytest.raises(NoSnapshot, match=said):
        fetch(HttpAddress(webcam.url(path)))


@pytest.mark.parametrize("path", ["/basic", "/digest", "/digest-sha256"])
def test_a_wrong_password_is_shown_once_and_never_said(webcam: Webcam, path: str) -> None:
    with pytest.raises(NoSnapshot, match="HTTP 401") as caught:
        fetch(HttpAddress(webcam.url(path, user="admin:wrong")))
    assert webcam.asked[path] == 2
    assert "wrong" not in str(caught.value)


class Taker:
    """Takes so many pictures, then no more."""

    def __init__(self, most: int) -> None:
        self.times_s: list[float] = []
        self._most = most

    def write(self, _data: bytes) -> None:
        self.times_s.append(time.monotonic())
        if len(self.times_s) == self._most:
            raise BrokenPipeError

    def flush(self) -> None:
        pass


def test_pictures_are_asked_for_at_the_wanted_rate_or_as_fast_as_they_come(webcam: Webcam) -> None:
    for path, fps, seconds in (("/snap", 10.0, 0.1), ("/slow", 10.0, 0.4), ("/snap", 2.0, 0.5)):
        taker = Taker(4)
        with contextlib.suppress(BrokenPipeError):
            poll(HttpAddress(webcam.url(path)), fps, taker)  # type: ignore[arg-type]
        paces_s = [after - before for before, after in zip(taker.times_s, taker.times_s[1:], strict=False)]
        assert seconds * 0.6 < sorted(paces_s)[1] < seconds * 2 + 0.2


async def test_a_snapshot_camera_stays_online_and_is_polled(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam
) -> None:
    async with capturing(tmp_path, broker, webcam.url("/snap?fps=10")) as (capture, detector):
        await eventually(detector.more_than("a", 20), 30)
        assert capture.log.count("capture.camera_") == 1
        assert len(capture.children()) == 1
        assert detector.states["a"] in (["online"], ["offline", "online"])
        assert detector.frames["a"][-1].jpeg == webcam.picture


async def test_snapshots_are_made_smaller_like_any_picture(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam
) -> None:
    webcam.picture = simplejpeg.encode_jpeg(np.zeros((240, 320, 3), np.uint8))
    async with capturing(tmp_path, broker, webcam.url("/snap?fps=10&size=160x160")) as (capture, detector):
        await eventually(detector.more_than("a", 10), 30)
        assert detector.sizes["a"][-1] == (160, 120)
        assert capture.log.count("capture.camera_") == 1
        assert capture.stop() == 0
        await eventually(lambda: not capture.leftovers())


async def test_a_missed_question_is_asked_again_and_a_camera_that_is_gone_is_offline_until_it_is_back(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam
) -> None:
    async with capturing(tmp_path, broker, webcam.url("/snap?fps=4")) as (capture, detector):
        await eventually(detector.more_than("a", 3), 30)
        webcam.is_busy = True
        asked = webcam.asked.total()
        await eventually(lambda: webcam.asked.total() > asked)
        webcam.is_busy = False
        count = detector.counts["a"]
        await eventually(detector.more_than("a", count + 3))
        assert detector.states["a"][-1] == "online"
        assert capture.log.count("capture.camera_offline") == 0
        webcam.is_busy = True
        await eventually(lambda: detector.states["a"][-1] == "offline", 15)
        assert "HTTP 503" in capture.log
        webcam.is_busy = False
        await eventually(lambda: detector.states["a"][-1] == "online", 15)


async def test_a_camera_that_streams_only_sometimes_is_followed_both_ways(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam
) -> None:
    async with capturing(tmp_path, broker, webcam.url("/sometimes?fps=10")) as (_capture, detector):
        await eventually(detector.more_than("a", 3), 30)
        for webcam.is_streaming in (True, False):
            count = detector.counts["a"]
            await eventually(detector.more_than("a", count + 20), 40)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_parts_that_ffmpeg_is_too_strict_for_are_read_all_the_same(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam, dialect: str
) -> None:
    url = webcam.url(f"/stream/{dialect}")
    await check_source(parse_camera(f"a={url}"), timeout_s=4)
    async with capturing(tmp_path, broker, url, start_timeout_s=4) as (_capture, detector):
        await eventually(detector.more_than("a", 20), 30)
        assert detector.frames["a"][-1].jpeg == webcam.picture


@pytest.mark.long  # it says how long they take, so each has the machine for itself
@pytest.mark.parametrize(
    ("path", "user"),
    [
        *((f"/stream/{dialect}", "") for dialect in MORE_DIALECTS),
        ("/raw", ""),
        ("/stream-moved", ""),
        ("/stream-basic", LOGIN),
        ("/stream-digest", LOGIN),
    ],
)
async def test_whatever_a_camera_makes_of_mjpeg_there_are_frames_within_ten_seconds(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam, path: str, user: str
) -> None:
    # Of a usual size: of JPEGs without anything between them ffmpeg wants to see some before it knows them.
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    webcam.picture = simplejpeg.encode_jpeg(noise)
    async with capturing(tmp_path, broker, webcam.url(path, user=user)) as (capture, detector):
        await eventually(lambda: "mqtt.link_up" in capture.log, 30)
        await eventually(detector.more_than("a", 2), 10)
        assert detector.frames["a"][-1].jpeg == webcam.picture


async def test_a_rate_below_what_the_watchdog_waits_for_is_no_stall(
    tmp_path: Path, broker: MosquittoServer, webcam: Webcam
) -> None:
    url = webcam.url("/snap?fps=0.5")
    async with capturing(tmp_path, broker, url, stall_timeout_s=1) as (capture, detector):
        await eventually(detector.more_than("a", 3), 30)
        assert "stalled" not in capture.log


async def test_check_of_a_snapshot_address_passes_or_says_why(webcam: Webcam) -> None:
    await check_source(parse_camera(f"a={webcam.url('/digest', user=LOGIN)}"))
    with pytest.raises(SetupError, match="404"):
        await check_source(parse_camera(f"a={webcam.url('/gone')}"))
