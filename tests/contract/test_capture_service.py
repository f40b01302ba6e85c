"""Capture as it runs: real programs, a real broker, and a client that answers."""

import asyncio
import hashlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from services.capture.cameras import parse_camera
from services.capture.check import check_source
from services.capture.source.child import CameraUnavailable
from services.capture.source.ffmpeg import find_ffmpeg
from services.capture.source.recording import survey
from services.common.errors import SetupError
from tests.capture_rig import CaptureProcess, Detector
from tests.support import MosquittoServer, eventually

FRAMES = {
    "book.mkv": 109,
    "classroom.mp4": 45,
    "face-demographics-walking-and-pause.mp4": 41,
    "head-pose-face-detection-female-and-male.mp4": 56,
    "empty-room.mp4": 201,
}
FFMPEG = shlex.quote(find_ffmpeg())


class Rig:
    def __init__(self, folder: Path, broker: MosquittoServer) -> None:
        self._folder = folder
        self.broker = broker
        self._started: list[CaptureProcess] = []

    def capture(self, cameras: str, **settings: object) -> CaptureProcess:
        process = CaptureProcess(self._folder, self.broker.url, cameras, **settings)
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
def rig(tmp_path: Path, broker: MosquittoServer) -> Iterator[Rig]:
    rig = Rig(tmp_path, broker)
    yield rig
    rig.close()


def journal(capture: CaptureProcess) -> list[dict[str, Any]]:
    if not capture.journal_path.exists():
        return []
    return [json.loads(line) for line in capture.journal_path.read_text().splitlines()]


def is_finished(capture: CaptureProcess) -> bool:
    return any(entry.get("finished") for entry in journal(capture))


def faces(capture: CaptureProcess) -> list[str]:
    return sorted(face for entry in journal(capture) for face in entry.get("faces", []))


@pytest.mark.parametrize(("name", "frames"), FRAMES.items())
async def test_frame_times_are_known_without_decoding(clips: Path, name: str, frames: int) -> None:
    recording = await survey(find_ffmpeg(), clips / name)
    assert len(recording.media_s) == frames


@pytest.mark.parametrize("name", ["book.mkv", "classroom.mp4"])
async def test_paced_file_is_handled_completely_and_capture_stays(rig: Rig, clips: Path, name: str) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"front=file://{clips / name}?paced=1")
        await eventually(lambda: is_finished(capture), 20)
        assert journal(capture)[0] == {"source": "front", "frames": FRAMES[name]}
        assert journal(capture)[-1] == {"source": "front", "finished": True, "frames": FRAMES[name]}
        assert [frame.sequence for frame in detector.frames["front"]] == list(range(FRAMES[name]))
        times = [frame.time for frame in detector.frames["front"]]
        assert times == sorted(set(times))
        await eventually(lambda: detector.states["front"][-1:] == ["offline"])
        assert detector.reasons["front"][-1] == "ended"
        assert capture.process.is_running()
        assert capture.stop() == 0


async def test_replay_mints_the_same_ids(rig: Rig, clips: Path) -> None:
    runs = [await play(rig, clips / "classroom.mp4") for _ in range(2)]
    assert len(runs[0]) == FRAMES["classroom.mp4"]
    assert runs[0] == runs[1]


async def test_killed_decoder_and_lost_broker_cost_a_paced_file_nothing(rig: Rig, clips: Path) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        detector.is_answering = False
        capture = rig.capture(
            f"front=file://{clips / 'book.mkv'}?paced=1", frame_timeout_s=0.2, frames_in_flight=2
        )
        await eventually(lambda: detector.counts["front"] >= 2)
        for child in capture.children():
            child.kill()
        detector.is_answering = True
        await eventually(lambda: len(faces(capture)) > 20)
        rig.broker.kill()
        await asyncio.sleep(0.2)
        rig.broker.start()
        await eventually(lambda: is_finished(capture), 30)
    assert len(set(faces(capture))) == FRAMES["book.mkv"]
    answered = [entry["frame"] for entry in journal(capture) if "frame" in entry]
    assert sorted(answered) == list(range(FRAMES["book.mkv"]))


async def test_a_dropped_frame_comes_again_unless_the_fault_is_its_own(rig: Rig, clips: Path) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        detector.drops = {3: "bad_image", 7: "custody_full"}
        capture = rig.capture(f"front=file://{clips / 'classroom.mp4'}?paced=1")
        await eventually(lambda: is_finished(capture), 20)
    sequences = [frame.sequence for frame in detector.frames["front"]]
    assert (sequences.count(3), sequences.count(7)) == (1, 2)
    assert {"source": "front", "frame": 3, "faces": [], "dropped": "bad_image"} in journal(capture)
    assert len(faces(capture)) == FRAMES["classroom.mp4"] - 1


async def test_jpeg_from_a_camera_arrives_byte_for_byte(rig: Rig, clips: Path, tmp_path: Path) -> None:
    encoded = tmp_path / "camera.avi"
    await run(f"{FFMPEG} -v error -i {clips / 'classroom.mp4'} -c:v mjpeg -q:v 3 {encoded}")
    await run(f"{FFMPEG} -v error -i {encoded} -c:v copy -f image2 {tmp_path}/%03d.jpg")
    sent = hashes(tmp_path)
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"front=file://{encoded}?paced=1")
        await eventually(lambda: is_finished(capture), 20)
        assert detector.hashes["front"] == sent
    assert len(sent) == FRAMES["classroom.mp4"]


async def test_stuck_and_garbled_cameras_cost_their_neighbours_nothing(rig: Rig, tmp_path: Path) -> None:
    good = tmp_path / "good.avi"
    # 1,000 frames that say by their place which they are; a live camera sends them at 200 a second.
    await run(
        f"{FFMPEG} -v error -f lavfi -i testsrc2=size=320x180:rate=200 -frames:v 1000 -c:v mjpeg {good}"
    )
    camera = f"exec:{FFMPEG} -v error -re -i {good} -c:v copy -f mpjpeg -"
    stuck = f"exec:sh -c {shlex.quote(f'head -c 9000 {good}; exec sleep 1000')}"
    garbage = f"exec:sh -c {shlex.quote('exec cat /dev/urandom')}"
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        # A window that is wide enough: what is lost here is lost to the neighbours.
        capture = rig.capture(
            "\n".join([f"a={camera}", f"stuck={stuck}", f"noise={garbage}", f"b={camera}"]),
            frames_in_flight=64,
            stall_timeout_s=1,
            start_timeout_s=1,
        )
        await eventually(lambda: detector.counts["a"] >= 999 and detector.counts["b"] >= 999, 40)
        assert detector.counts["stuck"] == detector.counts["noise"] == 0
        assert capture.resident_bytes < 300 * 1024 * 1024
        assert capture.stop() == 0
    assert '"camera": "noise"' in capture.log
    assert '"camera": "stuck"' in capture.log


async def test_killed_capture_leaves_no_program_behind_and_is_declared_offline(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture("a=test://?fps=20&size=320x180\nb=test://?fps=20&size=320x180")
        await eventually(lambda: detector.counts["a"] > 5 and detector.counts["b"] > 5, 20)
        assert len(capture.children()) == 2
        capture.kill()
        await eventually(lambda: not capture.leftovers())
        await eventually(lambda: detector.states["a"][-1] == detector.states["b"][-1] == "offline")
        assert detector.reasons["a"][-1] == "stopped"


async def test_child_that_ignores_the_signal_to_end_is_ended_with_all_it_started(rig: Rig) -> None:
    script = (
        f"trap '' TERM; {FFMPEG} -v error -re -f lavfi -i testsrc2=size=160x90:rate=20 -c:v mjpeg -f mpjpeg -"
    )
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"a=exec:sh -c {shlex.quote(script)}")
        await eventually(lambda: detector.counts["a"] > 5, 20)
        assert len(capture.children()) == 2
        assert capture.stop() == 0
        assert capture.leftovers() == []


async def test_frozen_program_is_told_as_stalled_and_replaced(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture("a=test://?fps=20&size=160x90", stall_timeout_s=0.5)
        await eventually(lambda: detector.counts["a"] > 5, 20)
        (frozen,) = capture.children()
        frozen.send_signal(signal.SIGSTOP)
        await eventually(lambda: "stalled" in detector.states["a"])
        count = detector.counts["a"]
        await eventually(detector.more_than("a", count + 5), 20)
        assert not frozen.is_running()
        assert detector.states["a"][-3:] == ["online", "stalled", "online"]
        assert detector.reasons["a"][-3:] == [None, "stalled", None]


async def test_silent_detect_gets_few_frames_and_all_again_when_it_speaks(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        detector.is_answering = False
        capture = rig.capture("a=test://?fps=50&size=160x90", frame_timeout_s=0.5)
        await eventually(lambda: detector.counts["a"] >= 4, 20)
        await asyncio.sleep(2)
        # Four at first, then one for each half second.
        assert detector.counts["a"] <= 4 + 6
        detector.is_answering = True
        count = detector.counts["a"]
        await eventually(detector.more_than("a", count + 50))
        assert 'reason": "unanswered"' in capture.log


async def test_a_camera_is_looked_at_as_often_as_detect_asks(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        detector.next_s = 0.2
        rig.capture(f"a=exec:{live_source(fps=25)}")
        await eventually(lambda: detector.counts["a"] >= 3, 20)
        first = detector.counts["a"]
        await asyncio.sleep(3)
        asked = detector.frames["a"][first:]
        assert 12 <= len(asked) <= 17
        gaps_s = [(b.time - a.time).total_seconds() for a, b in pairwise(asked)]
        assert 0.19 < median(gaps_s) < 0.25
        detector.next_s = 0.0
        count = detector.counts["a"]
        await asyncio.sleep(2)
        assert detector.counts["a"] - count >= 30


async def test_where_the_user_says_how_many_detect_does_not(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        detector.next_s = 2.0
        rig.capture("a=test://?fps=20&size=160x90")
        await eventually(lambda: detector.counts["a"] >= 3, 20)
        count = detector.counts["a"]
        await asyncio.sleep(2)
        assert detector.counts["a"] - count >= 20


async def test_an_answer_that_never_comes_ends_the_pause(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        detector.next_s = 2.0
        rig.capture(f"a=exec:{live_source(fps=25)}", frame_timeout_s=0.5)
        await eventually(lambda: detector.counts["a"] >= 2, 20)
        detector.is_answering = False
        count = detector.counts["a"]
        await eventually(detector.more_than("a", count + 2), 6)
        detector.is_answering, detector.next_s = True, 0.0
        await eventually(detector.more_than("a", count + 25), 10)


async def test_stream_that_changes_its_size_midway_is_not_squeezed_into_the_old_one(
    rig: Rig, tmp_path: Path
) -> None:
    stream = tmp_path / "both.h264"
    for size in ("320x180", "160x160"):
        # ffmpeg's concat would hide the change; one file behind the other is what a camera sends.
        source = f"-f lavfi -i testsrc2=size={size}:rate=25 -t 2 -c:v libx264 -g 25"
        await run(f"{FFMPEG} -v error {source} {tmp_path / size}.h264")
    stream.write_bytes(b"".join((tmp_path / f"{size}.h264").read_bytes() for size in ("320x180", "160x160")))
    camera = (
        f"exec:{FFMPEG} -v level+info -re -i {stream} -vf scale=out_range=pc -f yuv4mpegpipe - ?format=y4m"
    )
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"a={camera}")
        await eventually(lambda: '"reason": "changed"' in capture.log, 20)
        # The one picture that may slip through until ffmpeg's word has been read is squeezed.
        assert len(detector.sizes["a"]) <= 52


async def test_recording_that_changes_its_size_midway_is_played_to_its_end(rig: Rig, tmp_path: Path) -> None:
    for size in ("320x180", "160x160"):
        source = f"-f lavfi -i testsrc2=size={size}:rate=25 -t 1 -c:v libx264 -bsf:v h264_mp4toannexb"
        await run(f"{FFMPEG} -v error {source} {tmp_path / size}.ts")
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join((tmp_path / f"{size}.ts").read_bytes() for size in ("320x180", "160x160")))
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"front=file://{both}?paced=1")
        await eventually(lambda: is_finished(capture), 20)
    assert journal(capture)[-1]["frames"] == 50


async def test_hardware_decoder_that_is_not_there_is_done_without(rig: Rig, clips: Path) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"front=file://{clips / 'classroom.mp4'}?paced=1&hwaccel=qsv")
        await eventually(lambda: is_finished(capture), 20)
    assert len(faces(capture)) == FRAMES["classroom.mp4"]
    assert "capture.hwaccel_fallback" in capture.log


async def test_numbers_of_a_live_camera_are_never_used_again(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        last = 0
        for _ in range(2):
            detector.frames.clear()
            capture = rig.capture("a=test://?fps=20&size=160x90")
            await eventually(lambda: len(detector.frames["a"]) > 5, 20)
            capture.kill()
            assert detector.frames["a"][0].sequence > last
            last = detector.frames["a"][-1].sequence


async def test_frame_above_the_brokers_limit_comes_smaller(rig: Rig) -> None:
    rig.broker.kill()
    with rig.broker.config.open("a") as config:
        config.write("max_packet_size 20000\n")
    rig.broker.start()
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture("a=test://?fps=10&size=1280x720&quality=95")
        await eventually(lambda: detector.counts["a"] > 5, 20)
    assert "capture.quality_changed" in capture.log


async def test_password_of_a_camera_that_refuses_is_not_logged(rig: Rig) -> None:
    capture = rig.capture("a=rtsp://admin:s3cr%33t@127.0.0.1:9/live?token=s3cret")
    await eventually(
        lambda: "Connection refused" in capture.log or "capture.program_ended" in capture.log, 20
    )
    capture.stop()
    assert "s3cr" not in capture.log


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        ("file:///no/such.mp4", "No such file"),
        (f"file://{__file__}", "no video"),
        ("file:///tmp", "no file"),
        ("v4l2:///dev/video99", "does not exist"),
        ("rtsp://u:secret@127.0.0.1:9/x", "refused"),
        ("exec:no-such-program", "not installed"),
        ("exec:sh -c 'echo the lens is gone >&2; exit 3'", "the lens is gone"),
        ("exec:sleep 100", "no picture within"),
    ],
)
async def test_source_that_cannot_be_opened_is_said_in_one_line(camera: str, said: str) -> None:
    with pytest.raises(SetupError) as caught:
        await check_source(parse_camera(f"front={camera}"), timeout_s=2)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_source_that_can_be_opened_passes_the_check_and_is_let_go(clips: Path) -> None:
    for camera in (f"file://{clips / 'book.mkv'}?paced=1", "test://?size=160x90"):
        await check_source(parse_camera(f"front={camera}"))
    assert not [child for child in psutil.Process(os.getpid()).children() if "ffmpeg" in child.name()]


async def test_missing_recording_is_waited_for(rig: Rig, clips: Path, tmp_path: Path) -> None:
    place = tmp_path / "later.mp4"
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"front=file://{place}?paced=1")
        await eventually(lambda: "capture.file_unavailable" in capture.log)
        place.symlink_to(clips / "classroom.mp4")
        await eventually(lambda: is_finished(capture), 20)


async def test_a_camera_that_was_never_online_says_why_it_is_not(rig: Rig) -> None:
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        rig.capture("front=exec:false")
        await eventually(lambda: {"silent", "exited"} & set(detector.reasons["front"]), 20)


async def test_survey_of_something_else_says_so() -> None:
    with pytest.raises(CameraUnavailable, match="no video"):
        await survey(find_ffmpeg(), Path(sys.executable))


async def play(rig: Rig, clip: Path) -> list[str]:
    """Play a clip to its end; return the ids of its faces."""
    async with Detector(rig.broker.url) as detector:
        await detector.wait_up()
        capture = rig.capture(f"front=file://{clip}?paced=1")
        await eventually(lambda: is_finished(capture), 20)
        capture.stop()
    return faces(capture)


def live_source(fps: int) -> str:
    """Return the command of a camera that has no rate that a user has asked for."""
    source = f"testsrc2=size=160x90:rate={fps}"
    return f"{FFMPEG} -v error -re -f lavfi -i {source} -c:v mjpeg -q:v 5 -f mpjpeg -"


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(folder.glob("*.jpg"))]


async def run(command: str) -> None:
    process = await asyncio.create_subprocess_exec(*shlex.split(command))
    assert await process.wait() == 0
