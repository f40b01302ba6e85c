"""Video4Linux devices (linux/videodev2.h): lasting names, which processes hold them, their formats."""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.capture.options import Options, Size
from services.capture.source.child import CameraUnavailable

FOLDERS = ("/dev/v4l/by-id", "/dev/v4l/by-path")
"""By the camera's own name, which only one of two with the same has; then by the USB port that it is in."""


def links() -> dict[str, str]:
    """Return the device (`/dev/video0`) of each lasting name on this machine, the better names first."""
    return {str(link): str(link.resolve()) for folder in FOLDERS for link in _in(Path(folder))}


def lasting(device: str, behind: Mapping[str, str]) -> str:
    """Return a device's best lasting name; the device itself if it has none, as without udev.

    Args:
        device: such as `/dev/video0`.
        behind: see `links`.
    """
    return next((name for name, target in behind.items() if target == device), device)


def _in(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return  # no camera was ever plugged in, or it was just unplugged


def in_use(path: str) -> str:
    """Return a text that says that a device is in use, and by which programs. Blocks for milliseconds.

    Args:
        path: the device's, or a link to it.
    """
    names = [_describe(pid) for pid in holders(path)]
    return f"in use by {', '.join(names) or 'another program'}"


def holders(path: str) -> Iterator[int]:
    """Yield the ids of the other processes that have a device open; those of other users are hidden."""
    try:
        device = Path(path).stat()
    except OSError:
        return
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid != os.getpid() and any(_is_same(file, device) for file in _open_files(folder)):
            yield pid


def _open_files(process: Path) -> Iterator[os.stat_result]:
    try:
        for file in (process / "fd").iterdir():
            yield file.stat()
    except OSError:
        return  # another user's process, or it has ended or closed the file


def _is_same(file: os.stat_result, device: os.stat_result) -> bool:
    return stat.S_ISCHR(file.st_mode) and file.st_rdev == device.st_rdev


def _describe(pid: int) -> str:
    try:
        # `PID (NAME) STATE PARENT ...`, and a name may hold anything.
        before, _, after = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return f"process {pid}"
    if int(after.split()[1]) == os.getpid():
        return "another of these cameras"
    return f"{before.partition('(')[2]} (process {pid})"


USUAL_LIMIT = Size(1920, 1080)
USUAL_FPS = 30.0
ENOUGH_FPS = 10.0
"""A slower format is taken only where none is faster: large raw pictures come slowly over USB."""

# By ffmpeg's names. JPEG is passed through; raw pictures are encoded here; the rest is decoded first.
_PREFERENCE = {"mjpeg": 2, "h264": 0, "hevc": 0}


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which a camera delivers pictures.

    Attributes:
        codec: by ffmpeg's name: `mjpeg`, `yuyv422`, ...
        size: in pixels.
        fps: frames per second; None where the camera does not tell.
    """

    codec: str
    size: Size
    fps: float | None = None


def choose(formats: Iterable[Format], options: Options) -> Format | None:
    """Return the best format that the options allow, or None if the camera has none of the wanted codec.

    In this order: within the size limit, fast enough, JPEG, large, as fast as wanted, not faster than needed.
    """
    wanted = [one for one in formats if options.format in (None, one.codec)]
    return max(wanted, key=lambda one: _rank(one, options), default=None)


def _rank(one: Format, options: Options) -> tuple[float, ...]:
    limit = options.size or USUAL_LIMIT
    fps = USUAL_FPS if one.fps is None else one.fps
    wanted_fps = options.fps or USUAL_FPS
    area = one.size.width * one.size.height
    is_within = one.size.width <= limit.width and one.size.height <= limit.height
    # Cameras say 29.97 and mean 30.
    is_enough = fps >= 0.98 * min(wanted_fps, ENOUGH_FPS)
    is_all = fps >= 0.98 * wanted_fps
    return (
        is_within,
        is_enough,
        _PREFERENCE.get(one.codec, 1),
        area if is_within else -area,
        is_all,
        -fps if is_all else fps,
    )


_QUERYCAP = 0x80685600
_ENUM_FMT = 0xC0405602
_ENUM_FRAMESIZES = 0xC02C564A
_ENUM_FRAMEINTERVALS = 0xC034564B
_CAP_VIDEO_CAPTURE = 0x1 | 0x1000
_CAP_DEVICE_CAPS = 0x80000000
_BUFFER_TYPES = (1, 9)  # single-planar and multi-planar capture
_DISCRETE = 1
_MOST = 256  # of anything, for a driver whose lists never end

_CODECS = {
    b"MJPG": "mjpeg",
    b"JPEG": "mjpeg",
    b"YUYV": "yuyv422",
    b"UYVY": "uyvy422",
    b"NV12": "nv12",
    b"YU12": "yuv420p",
    b"RGB3": "rgb24",
    b"BGR3": "bgr24",
    b"GREY": "gray",
    b"H264": "h264",
    b"HEVC": "hevc",
}


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """A V4L2 device that delivers pictures.

    Attributes:
        path: `/dev/video0`, or a lasting name, see `links`.
        card: its own name.
        driver: the kernel's driver.
        formats: those of its formats that ffmpeg reads.
    """

    path: str
    card: str
    driver: str
    formats: tuple[Format, ...]


def describe(path: str) -> VideoDevice:
    """Ask a device for its name and formats.

    Raises:
        CameraUnavailable: there is no such device, it may not be opened, or it is no camera.
    """
    with _open(path) as device:
        reply = _ask(device, _QUERYCAP, bytes(104))
        if reply is None:
            raise CameraUnavailable(f"{path} is no camera")
        driver, card, _bus, _version, all_, own = struct.unpack_from("16s32s32sIII", reply)
        if not (own if all_ & _CAP_DEVICE_CAPS else all_) & _CAP_VIDEO_CAPTURE:
            raise CameraUnavailable(f"{path} delivers no pictures")
        return VideoDevice(path, _text(card), _text(driver), tuple(_formats(device)))


@contextmanager
def _open(path: str) -> Iterator[int]:
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        there = [*links(), *sorted(map(str, Path("/dev").glob("video*")))]
        names = ", ".join(there) or "no camera"
        raise CameraUnavailable(f"{path} does not exist; this machine has {names}") from error
    except PermissionError as error:
        raise CameraUnavailable(
            f"{path} may not be opened: add the user to its group, `usermod -aG video USER`"
        ) from error
    except OSError as error:
        problem = in_use(path) if error.errno == errno.EBUSY else f"not to be opened: {error.strerror}"
        raise CameraUnavailable(f"{path} is {problem}") from error
    try:
        yield device
    finally:
        os.close(device)


def _formats(device: int) -> Iterator[Format]:
    for kind in _BUFFER_TYPES:
        for reply in _enumerate(device, _ENUM_FMT, struct.pack("I", kind), 64):
            codec = _CODECS.get(reply[44:48])
            if codec is not None:
                yield from _sizes(device, codec, reply[44:48])


def _sizes(device: int, codec: str, pixel_format: bytes) -> Iterator[Format]:
    for reply in _enumerate(device, _ENUM_FRAMESIZES, pixel_format, 44):
        kind, *sides = struct.unpack_from("I6I", reply, 8)
        # Of a range the largest size is taken: it is certainly one of the steps.
        width, height = sides[:2] if kind == _DISCRETE else (sides[1], sides[4])
        rates = _rates(device, pixel_format + struct.pack("II", width, height))
        yield from (Format(codec, Size(width, height), fps) for fps in rates or [None])
        if kind != _DISCRETE:
            return


def _rates(device: int, picture: bytes) -> list[float | None]:
    rates: list[float | None] = []
    for reply in _enumerate(device, _ENUM_FRAMEINTERVALS, picture, 52):
        kind, numerator, denominator = struct.unpack_from("III", reply, 16)
        if numerator:
            rates.append(round(denominator / numerator, 3))
        if kind != _DISCRETE:
            break  # a range starts with its shortest interval
    return rates


def _enumerate(device: int, request: int, about: bytes, size_bytes: int) -> Iterator[bytes]:
    """Yield a device's replies to an enumeration; a request is an index, `about`, and room for the reply."""
    for index in range(_MOST):
        reply = _ask(device, request, (struct.pack("I", index) + about).ljust(size_bytes, b"\0"))
        if reply is None:
            return
        yield reply


def _ask(device: int, request: int, question: bytes) -> bytes | None:
    """Return the device's reply, or None when it has no (further) one."""
    buffer = bytearray(question)
    try:
        fcntl.ioctl(device, request, buffer)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return None
        raise CameraUnavailable(f"the device does not answer: {error.strerror}") from error
    return bytes(buffer)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
