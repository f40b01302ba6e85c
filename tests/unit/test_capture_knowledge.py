"""What capture makes of what programs, devices and files tell it."""

import re
from datetime import timedelta

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from services.capture.clock import StepWatch
from services.capture.encoder import QualityControl, encode_within
from services.capture.live import ClockCheck
from services.capture.options import Options, Size
from services.capture.source.devices import from_devices, parse_rpicam_list
from services.capture.source.recording import FfmpegLog, PacketTimes, Recording
from services.capture.source.v4l2 import Format, VideoDevice, choose, lasting
from services.capture.source.watch import MAX_LINE_CHARACTERS, MAX_LINES, SizeChange, StderrTail
from services.capture.stream.picture import JpegPicture, YuvPicture
from services.capture.turbojpeg import encode
from services.common.errors import Refused
from services.common.images.jpeg import orientation, with_orientation
from services.common.wire.times import EPOCH

# What `v4l2-ctl --list-formats-ext` prints for three common cameras, abridged. There is no V4L2 device on a
# test machine: that the device's own answers are read rightly, and that ffmpeg opens it, these cannot show.
LOGITECH_C920 = """
    [0]: 'YUYV' (YUYV 4:2:2)
        Size: Discrete 640x480
            Interval: Discrete 0.033s (30.000 fps)
            Interval: Discrete 0.042s (24.000 fps)
        Size: Discrete 1280x720
            Interval: Discrete 0.100s (10.000 fps)
        Size: Discrete 1920x1080
            Interval: Discrete 0.200s (5.000 fps)
        Size: Discrete 2304x1536
            Interval: Discrete 0.500s (2.000 fps)
    [1]: 'MJPG' (Motion-JPEG, compressed)
        Size: Discrete 640x480
            Interval: Discrete 0.033s (30.000 fps)
        Size: Discrete 1280x720
            Interval: Discrete 0.017s (60.000 fps)
            Interval: Discrete 0.033s (30.000 fps)
            Interval: Discrete 0.067s (15.000 fps)
        Size: Discrete 1920x1080
            Interval: Discrete 0.033s (30.000 fps)
            Interval: Discrete 0.067s (15.000 fps)
"""
LAPTOP = """
    [0]: 'MJPG' (Motion-JPEG, compressed)
        Size: Discrete 1280x720
            Interval: Discrete 0.033s (30.000 fps)
        Size: Discrete 320x180
            Interval: Discrete 0.033s (30.000 fps)
    [1]: 'YUYV' (YUYV 4:2:2)
        Size: Discrete 640x480
            Interval: Discrete 0.033s (30.000 fps)
"""
OLD_WEBCAM = """
    [0]: 'YUYV' (YUYV 4:2:2)
        Size: Discrete 352x288
            Interval: Discrete 0.033s (29.970 fps)
        Size: Discrete 640x480
            Interval: Discrete 0.067s (15.000 fps)
        Size: Discrete 1280x1024
            Interval: Discrete 0.133s (7.500 fps)
"""
NAMES = {"YUYV": "yuyv422", "MJPG": "mjpeg"}
LISTED = re.compile(r"'(\w{4})'|Size: Discrete (\d+)x(\d+)|\((\d+\.\d+) fps\)")


def listed(text: str) -> tuple[Format, ...]:
    formats, codec, size = [], "", Size(0, 0)
    for name, width, height, fps in LISTED.findall(text):
        if name:
            codec = NAMES[name]
        elif width:
            size = Size(int(width), int(height))
        else:
            formats.append(Format(codec, size, float(fps)))
    return tuple(formats)


@pytest.mark.parametrize(
    ("camera", "options", "chosen"),
    [
        (LOGITECH_C920, Options(), Format("mjpeg", Size(1920, 1080), 30)),
        (LOGITECH_C920, Options(size=Size(1280, 720)), Format("mjpeg", Size(1280, 720), 30)),
        (LOGITECH_C920, Options(size=Size(1280, 720), fps=15), Format("mjpeg", Size(1280, 720), 15)),
        (LOGITECH_C920, Options(size=Size(1280, 720), fps=60), Format("mjpeg", Size(1280, 720), 60)),
        (LOGITECH_C920, Options(size=Size(1000, 700)), Format("mjpeg", Size(640, 480), 30)),
        (LOGITECH_C920, Options(size=Size(320, 240)), Format("mjpeg", Size(640, 480), 30)),
        (LOGITECH_C920, Options(format="yuyv422"), Format("yuyv422", Size(1280, 720), 10)),
        (LOGITECH_C920, Options(format="yuyv422", fps=2), Format("yuyv422", Size(1920, 1080), 5)),
        (LAPTOP, Options(), Format("mjpeg", Size(1280, 720), 30)),
        (OLD_WEBCAM, Options(), Format("yuyv422", Size(640, 480), 15)),
        (OLD_WEBCAM, Options(fps=1), Format("yuyv422", Size(1280, 1024), 7.5)),
    ],
)
def test_best_format_of_common_cameras_is_chosen(camera: str, options: Options, chosen: Format) -> None:
    assert choose(listed(camera), options) == chosen


def test_format_that_the_camera_lacks_is_not_replaced_by_another() -> None:
    assert choose(listed(OLD_WEBCAM), Options(format="mjpeg")) is None


def test_listed_camera_comes_with_the_line_for_the_configuration() -> None:
    (camera,) = from_devices([VideoDevice("/dev/video0", "C920", "uvcvideo", listed(LOGITECH_C920))])
    assert camera.line == "front=v4l2:///dev/video0?format=mjpeg&size=1920x1080&fps=30"


def test_a_name_that_a_camera_keeps_is_better_than_its_number() -> None:
    behind = {
        "/dev/v4l/by-id/usb-C920-video-index0": "/dev/video0",
        "/dev/v4l/by-path/usb-0:1-video-index0": "/dev/video0",
        "/dev/v4l/by-path/usb-0:2-video-index0": "/dev/video2",
    }
    names = [lasting(f"/dev/video{number}", behind) for number in (0, 2, 4)]
    assert names == [
        "/dev/v4l/by-id/usb-C920-video-index0",
        "/dev/v4l/by-path/usb-0:2-video-index0",  # another of the same kind has the name of that
        "/dev/video4",
    ]


def test_devices_that_are_stages_of_another_camera_are_not_listed() -> None:
    devices = [
        VideoDevice("/dev/video0", "vi-output, imx219 9-0010", "tegra-video", ()),
        VideoDevice("/dev/video1", "unicam-image", "unicam", ()),
        VideoDevice("/dev/video2", "metadata", "uvcvideo", ()),
    ]
    assert [camera.url for camera in from_devices(devices)] == ["csi://0"]


def test_raspberry_pi_cameras_are_listed() -> None:
    said = """Available cameras
-----------------
0 : imx708_wide [4608x2592 10-bit RGGB] (/base/axi/pcie@120000/rp1/i2c@88000/imx708@1a)
    Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps - (768, 432)/3072x1728 crop]
                             2304x1296 [56.03 fps - (0, 0)/4608x2592 crop]
1 : imx219 [3280x2464 10-bit RGGB] (/base/axi/pcie@120000/rp1/i2c@80000/imx219@10)
    Modes: 'SRGGB10_CSI2P' : 640x480 [103.33 fps - (1000, 752)/1280x960 crop]
"""
    wide, other = parse_rpicam_list(said)
    assert (wide.url, wide.name, wide.line) == (
        "rpicam://0",
        "imx708_wide",
        "front=rpicam://0?size=1536x864&fps=120.13",
    )
    assert other.formats == (Format("mjpeg", Size(640, 480), 103.33),)


def test_last_words_are_bounded_and_the_end_of_what_was_said() -> None:
    words = StderrTail()
    for number in range(10_000):
        words.add(f"[error] {number} {'x' * 5_000}\n".encode())
    assert str(words).count("|") == MAX_LINES - 1
    assert len(str(words)) <= MAX_LINES * (MAX_LINE_CHARACTERS + 3)
    assert "9999" in str(words)


def test_what_is_only_information_is_no_last_word() -> None:
    words = StderrTail()
    words.add(b"[info] Input #0, rtsp\n  Duration: N/A\n[error] Connection refu")
    words.add(b"sed\n")
    assert str(words) == "[error] Connection refused"


def test_change_of_size_is_noticed_and_no_other_change() -> None:
    change = SizeChange()
    stream = "  Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv), 640x360, 15 fps"
    reconfigured = "Reconfiguring filter graph because video parameters changed to yuv420p(tv, bt709)"
    said = [f"{stream}", f"{reconfigured}, 640x360", f"{reconfigured}, 320x240", f"{reconfigured}, 320x240"]
    assert [change.is_told_by(line) for line in said] == [False, False, True, False]


def test_same_end_is_told_in_the_same_words() -> None:
    said = []
    for address in ("0x55e1", "0x7ffc"):
        words = StderrTail()
        words.add(f"[rtsp @ {address}] [error] Connection refused\n".encode())
        said.append(str(words))
    assert said == ["[rtsp] [error] Connection refused"] * 2
    for relay_url in ("rtsp://127.0.0.1:40001/abc", "rtsp://127.0.0.1:40002/def"):
        words = StderrTail("rtsp://10.0.0.7/live", relay_url)
        words.add(f"[error] Error opening input file {relay_url}.\n".encode())
        said.append(str(words))
    assert said[2:] == ["[error] Error opening input file rtsp://10.0.0.7/***."] * 2


@given(st.binary(max_size=400))
def test_last_words_never_disturb_a_terminal(said: bytes) -> None:
    words = StderrTail()
    words.add(said)
    assert re.search(r"[\x00-\x1f\x7f\x9b]", str(words)) is None


def packets(*lines: str) -> PacketTimes:
    times = PacketTimes()
    for line in ("#tb 0: 1/1000", "#codec_id 0: h264", *lines):
        times.add(line)
    return times


def test_frame_times_are_in_order_of_appearance_and_start_at_zero() -> None:
    read = packets("0, -34, 33, 33, 17442, 0x70a5", "0, -1, 167, 33, 57, 0x90", "0, 33, 100, 33, 14, 0x6a")
    assert read.codec == "h264"
    assert list(read.media_s()) == pytest.approx([0, 0.067, 0.134])


def test_packets_without_a_time_are_counted_all_the_same() -> None:
    read = packets("0, NOPTS, NOPTS, 0, 5, 0x1", "0, 40, NOPTS, 0, 5, 0x1", "0, NOPTS, NOPTS, 0, 5, 0x1")
    assert len(read.media_s()) == 3


def test_recording_goes_on_past_the_last_time_it_knows() -> None:
    recording = Recording(EPOCH, packets("0, 0, 0, 1, 1, 0x0", "0, 40, 40, 1, 1, 0x0").media_s())
    assert recording.time(1) == EPOCH + timedelta(milliseconds=40)
    times = [recording.time(frame) for frame in range(6)]
    assert times == sorted(set(times))


def test_rate_limit_chooses_the_same_frames_each_time() -> None:
    recording = Recording(
        EPOCH, packets(*(f"0, {at}, {at}, 33, 9, 0x0" for at in range(0, 3000, 33))).media_s()
    )
    assert recording.chosen(10) == recording.chosen(10)
    assert len(recording.chosen(10)) == pytest.approx(30, abs=1)


def noise(side: int) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    data: bytes = simplejpeg.encode_jpeg(pixels, quality=95)
    return data


@pytest.mark.parametrize("limit_bytes", [200_000, 60_000, 12_000, 3_000])
def test_frame_is_made_to_fit_the_packet(limit_bytes: int) -> None:
    data = noise(400)
    assert len(data) > limit_bytes
    assert len(encode_within(JpegPicture(data), 85, QualityControl(), limit_bytes)) <= limit_bytes


def test_frame_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(Refused, match="too_large"):
        encode_within(JpegPicture(noise(400)), 85, QualityControl(), 100)


def test_what_only_looks_like_a_jpeg_is_refused_when_it_has_to_be_decoded() -> None:
    with pytest.raises(Refused, match="not_a_jpeg"):
        encode_within(JpegPicture(b"\xff\xd8\xff" + bytes(5_000)), 85, QualityControl(), 1_000)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_jpeg_that_is_encoded_anew_still_says_how_to_turn_it(turn: int) -> None:
    data = with_orientation(noise(64), turn)
    assert orientation(encode(JpegPicture(data), 50)) == turn
    assert orientation(encode(JpegPicture(data), 50, reduction=2)) == turn


OUTPUT = """Input #0, mov, from 'file:x.mov':
  Metadata:
    creation_time   : 2024-05-06T07:08:09.000000Z
  Stream #0:1: Video: h264, 1920x1080
    Side data:
      {matrix}
Output #0, framecrc, to 'pipe:1':
    creation_time   : 2025-05-06T07:08:09.000000Z
  Stream #0:0: Video: mjpeg, 360x640
    Side data:
      {output_matrix}
"""


@pytest.mark.parametrize(
    ("matrix", "output_matrix", "is_turned"),
    [
        ("Display Matrix: rotation of 90.00 degrees", "Display Matrix: rotation of 90.00 degrees", True),
        ("displaymatrix: rotation of -180.00 degrees", "displaymatrix: rotation of -180.00 degrees", True),
        # Mirrored, which the angle does not tell.
        ("Display Matrix: rotation of -0.00 degrees", "Display Matrix: rotation of -0.00 degrees", True),
        ("Display Matrix: rotation of 90.00 degrees", "cpb: bitrate", False),  # that of another stream
    ],
)
def test_what_ffmpeg_says_of_a_source_is_understood(matrix: str, output_matrix: str, is_turned: bool) -> None:
    said = FfmpegLog()
    for line in OUTPUT.format(matrix=matrix, output_matrix=output_matrix).splitlines():
        said.add(line)
    assert said.is_turned == is_turned
    assert said.creation is not None
    assert said.creation.year == 2024


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (64, 47), (17, 2)])
def test_planes_of_any_size_become_the_picture_they_hold(width: int, height: int) -> None:
    half = (-(-height // 2), -(-width // 2))
    planes = YuvPicture(
        np.full((height, width), 180, np.uint8), np.full(half, 90, np.uint8), np.full(half, 160, np.uint8)
    )
    pixels = simplejpeg.decode_jpeg(encode(planes, 90), "RGB")
    # An odd side loses its last row or column.
    assert pixels.shape == (height // 2 * 2, width // 2 * 2, 3)
    # JFIF's matrix, full range.
    red, green, blue = 180 + 1.402 * 32, 180 - 0.344 * -38 - 0.714 * 32, 180 + 1.772 * -38
    assert np.abs(pixels.astype(int) - [round(red), round(green), round(blue)]).max() <= 4


def test_kernel_is_asked_about_the_clock_now_and_then_only() -> None:
    answers = iter([False, True])
    clock = ClockCheck(lambda: next(answers), keep_s=5)
    assert not clock.is_synchronised(100.0)
    assert not clock.is_synchronised(104.9)
    assert clock.is_synchronised(105.0)


def test_a_clock_that_is_set_is_noticed_once_and_one_that_is_drawn_is_not() -> None:
    watch = StepWatch()
    assert watch.note(5.0, 100.0) == 0
    assert watch.note(6.4, 101.0) == 0
    assert watch.note(1_900_000_007.0, 102.0) == pytest.approx(1_900_000_007 - 6.4 - 1)
    assert watch.note(1_900_000_017.0, 112.0) == 0
    assert watch.note(1_900_000_018.0 - 3600, 113.0) == pytest.approx(-3600)
    assert watch.note(1_900_000_019.0 - 3600, 114.0) == 0
