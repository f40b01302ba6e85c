"""Asks Video4Linux devices what they can do; linux/videodev2.h."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.capture import device_names
from services.capture.child import CameraUnavailable
from services.capture.formats import Format
from services.capture.holders import in_use
from services.capture.options import Size

_QUERYCAP = 0x80685600
_ENUM_FMT = 0xC0405602
_ENUM_FRAMESIZES = 0xC02C564A
_ENUM_FRAMEINTERVALS = 0xC034564B
_CAP_VIDEO_CAPTURE = 0x1 | 0x1000
_CAP_DEVICE_CAPS = 0x80000000
_BUFFER_TYPES = (1, 9)  # single-planar and multi-planar capture
_DISCRETE = 1
_MOST = 256  # of anything; a driver that never says "no more" does not hold us up

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
class Device:
    """A V4L2 device that delivers pictures.

    Attributes:
        path: `/dev/video0`, or a name that lasts, see `device_names`.
        card: what it calls itself.
        driver: the kernel's driver.
        formats: what it offers, of what ffmpeg understands.
    """

    path: str
    card: str
    driver: str
    formats: tuple[Format, ...]


def describe(path: str) -> Device:
    """Return what a device says of itself.

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
        return Device(path, _text(card), _text(driver), tuple(_formats(device)))


@contextmanager
def _open(path: str) -> Iterator[int]:
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        there = [*device_names.links(), *sorted(map(str, Path("/dev").glob("video*")))]
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
        # A range is represented by its largest size, which alone is sure to be one of its steps.
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
    """Yield the device's replies to an enumeration: an index, what it is about, and room for the reply."""
    for index in range(_MOST):
        reply = _ask(device, request, (struct.pack("I", index) + about).ljust(size_bytes, b"\0"))
        if reply is None:
            return
        yield reply


def _ask(device: int, request: int, question: bytes) -> bytes | None:
    """Return the device's reply, or nothing when it has no (further) one."""
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
