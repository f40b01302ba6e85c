"""What capture's programs do to it: they talk without end, fall silent, and end at the wrong moment."""

import asyncio
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from services.capture.cameras import parse_camera
from services.capture.metrics import Tally
from services.capture.source.child import CameraUnavailable, Child
from services.capture.source.commands import command
from services.capture.source.facts import Command, OutputFormat, RelayAddress, SourceFacts
from services.capture.source.ffmpeg import find_ffmpeg
from services.capture.source.pipe import Pipe, Timeouts
from services.capture.source.recording import probe, survey
from services.capture.source.watch import watch
from services.capture.stream.picture import Picture
from tests.support import PATIENCE

PACKETS = "\\n".join(["#tb 0: 1/25", "#codec_id 0: h264", *(f"0, {n}, {n}, 1, 9, 0x0" for n in range(50))])
WARNINGS = "head -c 3000000 /dev/zero | tr '\\0' w | fold -w 80"


def program(folder: Path, script: str) -> str:
    """A program in ffmpeg's place."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"what is in it only ffmpeg reads")
    return path


async def test_a_file_with_megabytes_of_warnings_is_surveyed(tmp_path: Path, clip: Path) -> None:
    ffmpeg = program(tmp_path, f"{WARNINGS} >&2; printf '{PACKETS}\\n'; {WARNINGS} >&2")
    async with asyncio.timeout(20 * PATIENCE):
        assert len((await survey(ffmpeg, clip)).media_s) == 50


async def test_a_source_with_megabytes_of_warnings_is_probed(tmp_path: Path) -> None:
    ffmpeg = program(tmp_path, f"{WARNINGS} >&2; printf '{PACKETS}\\n'; {WARNINGS} >&2")
    facts = SourceFacts(ffmpeg, relay_address=RelayAddress("rtsp://127.0.0.1/token"))
    found = await probe(parse_camera("a=rtsp://host/x"), facts, 20 * PATIENCE)
    assert found.codec == "h264"


@pytest.mark.parametrize("script", ["sleep 100", f"printf '{PACKETS}\\n'; exec sleep 100", "yes warning >&2"])
async def test_a_file_without_an_end_is_unavailable_and_its_program_is_gone(
    tmp_path: Path, clip: Path, script: str
) -> None:
    ffmpeg = program(tmp_path, script)
    async with asyncio.timeout(10):
        with pytest.raises(CameraUnavailable, match="no further frame"):
            await survey(ffmpeg, clip, silence_s=0.5)
    assert not [child for child in psutil.Process().children(recursive=True) if ffmpeg in child.cmdline()]


async def test_an_endless_talker_leaves_others_their_turn(tmp_path: Path, clip: Path) -> None:
    ffmpeg = program(tmp_path, "yes '0, 1, 1, 1, 9, 0x0'")
    surveying = asyncio.create_task(survey(ffmpeg, clip))
    await asyncio.sleep(0.5)
    late_s = []
    loop = asyncio.get_running_loop()
    for _ in range(20):
        began_s = loop.time()
        await asyncio.sleep(0.01)
        late_s.append(loop.time() - began_s)
    surveying.cancel()
    await asyncio.wait([surveying])
    assert surveying.cancelled()
    assert sorted(late_s)[10] < 0.2


class Ending:
    """A process that ends when it is told."""

    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        await self.over
        return 0


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_that_comes_as_a_program_ends_is_not_forgotten(turns: int) -> None:
    process = Ending()
    output, errors = Pipe(), Pipe()
    waiting = asyncio.create_task(Child(process, output, errors).ended(60))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    process.over.set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    had_ended = waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled() or had_ended
    output.close()
    errors.close()


@pytest.mark.parametrize(("idle_s", "is_resting"), [(0.0, False), (0.3, True)])
async def test_what_is_not_worth_reading_stays_in_the_pipe_for_a_while_and_is_not_lost(
    *, idle_s: float, is_resting: bool
) -> None:
    source = "testsrc2=size=320x180:rate=50:duration=4"
    output = ("-c:v", "mjpeg", "-f", "mpjpeg", "-flush_packets", "1", "pipe:1")
    argv = (find_ffmpeg(), "-v", "error", "-re", "-f", "lavfi", "-i", source, *output)
    came_s: list[float] = []

    async def on_picture(_picture: Picture) -> float:
        came_s.append(asyncio.get_running_loop().time())
        return idle_s

    ending = await watch(
        Command(argv, OutputFormat.MULTIPART), on_picture, timeouts=Timeouts(20, 1), tally=Tally("a")
    )
    assert (ending.reason, ending.status, ending.pictures) == ("exited", 0, 200)
    # Of those of the last second how many were read together with the one before.
    together = sum(later - earlier < 0.002 for earlier, later in pairwise(came_s[-50:]))
    assert (together > 30) == is_resting


@pytest.mark.parametrize(("rate", "most_fps", "fewest", "most"), [(25, 15.0, 58, 62), (30, 15.0, 59, 61)])
async def test_of_decoded_pictures_only_those_leave_ffmpeg_that_there_is_use_for(
    tmp_path: Path, rate: int, most_fps: float, fewest: int, most: int
) -> None:
    ffmpeg, video = find_ffmpeg(), tmp_path / "clip.mp4"
    source = f"testsrc2=size=160x90:rate={rate}:duration=4"
    making = await asyncio.create_subprocess_exec(
        *(ffmpeg, "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264", str(video))
    )
    assert await making.wait() == 0
    camera = parse_camera(f"a=file://{video}")

    async def on_picture(_picture: Picture) -> float:
        return 0.0

    for facts, expected in (
        (SourceFacts(ffmpeg), (4 * rate, 4 * rate)),
        (SourceFacts(ffmpeg, most_fps=most_fps), (fewest, most)),
    ):
        ending = await watch(command(camera, facts), on_picture, timeouts=Timeouts(20, 5), tally=Tally("a"))
        assert ending.status == 0
        assert expected[0] <= ending.pictures <= expected[1]


async def test_pictures_that_come_unevenly_are_nothing_that_ffmpeg_warns_of(tmp_path: Path) -> None:
    ffmpeg, video = find_ffmpeg(), tmp_path / "clip.mkv"
    # Every third one comes at nearly the same time as the one before, as when a USB bus was busy.
    source = "testsrc2=size=160x90:rate=30:duration=2,settb=1/1000,setpts='PTS-if(eq(mod(N,3),2),30,0)'"
    making = await asyncio.create_subprocess_exec(
        *(ffmpeg, "-v", "error", "-f", "lavfi", "-i", source, "-fps_mode", "passthrough"),
        *("-enc_time_base", "1:1000", "-c:v", "mjpeg", str(video)),
    )
    assert await making.wait() == 0

    async def on_picture(_picture: Picture) -> float:
        return 0.0

    camera = parse_camera(f"a=file://{video}?paced=1")
    ending = await watch(
        command(camera, SourceFacts(ffmpeg)), on_picture, timeouts=Timeouts(20, 5), tally=Tally("a")
    )
    assert (ending.status, ending.pictures) == (0, 60)
    assert "DTS" not in ending.message
