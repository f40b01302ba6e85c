"""Capture before USB cameras: the kernel's own driver, a real device, plugged and unplugged."""

import asyncio
import json
import time
from pathlib import Path
from statistics import median

from services.capture.options import Size
from services.capture.source.devices import cameras_of_this_machine
from services.capture.source.ffmpeg import find_ffmpeg
from services.capture.source.v4l2 import Format
from tests.camera.inside.pictures import Pictures, contents
from tests.camera.inside.usb import Stage, UsbCamera, capturing

BACK_S = 5.0
REPLUGS = 5


def webcam(pictures: Pictures) -> UsbCamera:
    return UsbCamera(
        f"mjpeg:1280x720:30,15:{pictures.large}",
        f"mjpeg:640x480:30,15:{pictures.small}",
        f"yuyv:320x240:30,10:{pictures.raw}",
    )


async def test_a_camera_is_listed_with_all_that_it_offers_and_by_a_name_that_lasts(
    pictures: Pictures,
) -> None:
    async with webcam(pictures) as camera:
        (listed,) = await asyncio.to_thread(cameras_of_this_machine)
    assert listed.url == f"v4l2://{camera.device}"
    assert listed.name.startswith("Paper Camera")
    assert set(listed.formats) == {
        Format("mjpeg", Size(1280, 720), 30.0),
        Format("mjpeg", Size(1280, 720), 15.0),
        Format("mjpeg", Size(640, 480), 30.0),
        Format("mjpeg", Size(640, 480), 15.0),
        Format("yuyv422", Size(320, 240), 30.0),
        Format("yuyv422", Size(320, 240), 10.0),
    }
    assert listed.line == f"front=v4l2://{camera.device}?format=mjpeg&size=1280x720&fps=30"


async def test_mjpeg_goes_through_byte_for_byte_and_a_camera_comes_back(
    tmp_path: Path, pictures: Pictures
) -> None:
    async with webcam(pictures) as camera:
        alone_s = await first_picture(camera)
        names = "front=v4l2:///dev/video0?size=640x480&fps=15"
        async with capturing(tmp_path, names, stall_timeout_s=3) as stage:
            await passes_through(camera, stage, pictures)
            # What ffmpeg alone takes is nothing on a real machine, and seconds on an emulated one.
            assert median([await replug(camera, stage) for _ in range(REPLUGS)]) < BACK_S + alone_s
            await hangs_and_comes_back(camera, stage)


async def first_picture(camera: UsbCamera) -> float:
    """Return how many seconds ffmpeg takes to a camera's first picture."""
    began_s = time.monotonic()
    taking = ("-v", "error", "-nostdin", "-f", "v4l2", "-i", camera.device, "-frames:v", "1")
    taker = await asyncio.create_subprocess_exec(find_ffmpeg(), *taking, "-f", "null", "-")
    assert await taker.wait() == 0
    await camera.event("committed")
    return time.monotonic() - began_s


async def passes_through(camera: UsbCamera, stage: Stage, pictures: Pictures) -> None:
    chosen = await camera.event("committed")
    assert (chosen["mode"], chosen["fps"]) == ("mjpeg 640x480", 15.0)
    await stage.more("front", 20)
    assert {frame.jpeg for frame in stage.detector.frames["front"]} <= contents(pictures.small)


async def hangs_and_comes_back(camera: UsbCamera, stage: Stage) -> None:
    camera.freeze()
    await stage.is_said("front", "stalled")
    camera.thaw()
    await stage.more("front", 5)
    await stage.is_said("front", "online")

    # As a loose plug does: nobody has had the time to notice.
    await camera.unplug()
    await camera.plug()
    await stage.more("front", 20)


async def replug(camera: UsbCamera, stage: Stage) -> float:
    """Unplug it until capture has said so, and plug it in; return the seconds from there to a frame."""
    await camera.unplug()
    await stage.is_said("front", "offline")
    await camera.gone()
    began_s = time.monotonic()
    await camera.plug()
    await stage.more("front")
    return stage.detector.arrivals_s["front"] - began_s


def device_of(camera: UsbCamera) -> str:
    return str(Path(camera.device).resolve())


async def test_two_cameras_on_one_hub_keep_apart_and_come_back_by_name_under_other_numbers(
    tmp_path: Path, pictures: Pictures
) -> None:
    left = UsbCamera(f"mjpeg:640x480:15:{pictures.small}", name="Left")
    right = UsbCamera(f"mjpeg:640x480:15:{pictures.other}", name="Right", port=1)
    async with left, right:
        assert device_of(left) == "/dev/video0"
        names = f"left=v4l2://{left.device}\nright=v4l2://{right.device}"
        async with capturing(tmp_path, names) as stage:
            await stage.more("left", 5)
            await stage.more("right", 5)
            said = list(stage.detector.states["right"])
            await left.unplug()
            await stage.is_said("left", "offline")
            await stage.more("right", 10)
            assert stage.detector.states["right"] == said
            await right.unplug()
            await stage.is_said("right", "offline")
            await left.gone()
            await right.gone()
            before = dict(stage.detector.counts)
            await right.plug()
            await right.there()
            await left.plug()
            await left.there()
            assert device_of(right) == "/dev/video0"
            await stage.more("left", 5)
            await stage.more("right", 5)
            assert set(stage.frames_since("left", before["left"])) <= contents(pictures.small)
            assert set(stage.frames_since("right", before["right"])) <= contents(pictures.other)


async def test_a_format_that_the_camera_lacks_and_a_device_that_another_has_are_said_in_words(
    tmp_path: Path, pictures: Pictures
) -> None:
    async with webcam(pictures) as camera:
        taking = ("-v", "error", "-nostdin", "-f", "v4l2", "-i", camera.device, "-f", "null", "-")
        other = await asyncio.create_subprocess_exec(find_ffmpeg(), *taking)
        await camera.event("committed")
        cameras = f"front=v4l2://{camera.device}\nwrong=v4l2://{camera.device}?format=h264"
        async with capturing(tmp_path, cameras) as stage:
            await stage.logged("wrong", "does not offer that format, but mjpeg, yuyv422")
            await stage.logged("front", "busy", "in use by ffmpeg", f"(process {other.pid})")
            other.terminate()
            await other.wait()
            await stage.more("front", 5)
            await stage.is_said("front", "online")
            assert stage.detector.states["wrong"] == ["offline"]


async def test_of_two_cameras_on_one_device_the_one_that_lost_says_so_and_has_it_later(
    tmp_path: Path, pictures: Pictures
) -> None:
    async with (
        webcam(pictures) as camera,
        capturing(tmp_path, f"one=v4l2://{camera.device}\ntwo=v4l2:///dev/video0") as stage,
    ):
        await stage.logged("capture.program_ended", "in use by another of these cameras")


async def test_raw_pictures_are_nothing_that_ffmpeg_warns_of(tmp_path: Path, pictures: Pictures) -> None:
    async with (
        UsbCamera(f"yuyv:320x240:30:{pictures.raw}") as camera,
        capturing(tmp_path, f"front=v4l2://{camera.device}") as stage,
    ):
        assert (await camera.event("committed"))["mode"] == "yuyv 320x240"
        await stage.more("front", 60)
        await camera.unplug()
        await stage.is_said("front", "offline")
        ended = [json.loads(line) for line in stage.capture.log.splitlines() if "program_ended" in line]
        assert ended
        assert not [event for event in ended if "DTS" in event["last_words"]]
