"""The cameras that this machine has."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.capture.cameras import to_url
from services.capture.options import Options, Size
from services.capture.source import v4l2
from services.capture.source.child import CameraUnavailable
from services.capture.source.v4l2 import Format, choose

RPICAM_PROGRAMS = ("rpicam", "libcamera")
"""The family of programs was renamed in 2023; older systems have the old name."""

_LIST_TIMEOUT_S = 10.0
_JETSON_DRIVER = "tegra-video"
# Stages of a Raspberry Pi's own camera, which is opened as rpicam://.
_PI_DRIVERS = frozenset({"unicam", "rp1-cfe", "pispbe", "bcm2835-isp", "bcm2835-codec", "rpi-hevc-dec"})
_PI_CAMERA = re.compile(r"^(\d+) : (\S+) \[(\d+)x(\d+)", re.MULTILINE)
_PI_MODE = re.compile(r"(\d+)x(\d+) \[(\d+(?:\.\d+)?) fps")


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera of this machine, or of its network.

    Attributes:
        url: its address in capture's settings.
        name: its own name.
        formats: what it offers.
        line: an entry for FACEFERRY_CAMERAS; empty where none is known.
        problem: why it cannot be used as it is, and what to do; None: it can.
    """

    url: str
    name: str
    formats: tuple[Format, ...]
    line: str
    problem: str | None = None


def cameras_of_this_machine() -> tuple[FoundCamera, ...]:
    """Return all cameras of this machine: those of a Raspberry Pi or a Jetson first, then USB. Blocks."""
    devices, problems = _v4l2_devices()
    return (*_rpicam_cameras(), *from_devices(devices), *problems)


def first_camera() -> FoundCamera | None:
    """Return the first camera that can be used, or None. Blocks."""
    return next((camera for camera in cameras_of_this_machine() if camera.problem is None), None)


def from_devices(devices: Iterable[v4l2.VideoDevice]) -> tuple[FoundCamera, ...]:
    """Return the cameras among V4L2 devices.

    A Jetson's CSI sensors are such devices, but deliver raw sensor data: they are opened as `csi://`.
    """
    devices = [device for device in devices if device.driver not in _PI_DRIVERS]
    sensors = [device for device in devices if device.driver == _JETSON_DRIVER]
    others = [device for device in devices if device.driver != _JETSON_DRIVER and device.formats]
    csi = (_camera(f"csi://{number}", sensor.card, ()) for number, sensor in enumerate(sensors))
    usb = (_camera(to_url(device.path), device.card, device.formats) for device in others)
    return (*csi, *usb)


def parse_rpicam_list(text: str) -> tuple[FoundCamera, ...]:
    """Return the cameras in what `rpicam-hello --list-cameras` prints."""
    found = list(_PI_CAMERA.finditer(text))
    ends = [camera.start() for camera in found[1:]] + [len(text)]
    return tuple(
        _camera(f"rpicam://{camera[1]}", camera[2], _pi_formats(text[camera.end() : end]))
        for camera, end in zip(found, ends, strict=True)
    )


def find_rpicam(program: str) -> str | None:
    """Return the name of a Raspberry Pi camera program such as `vid`, or None if it is not installed."""
    names = (f"{family}-{program}" for family in RPICAM_PROGRAMS)
    return next((name for name in names if shutil.which(name)), None)


def _camera(url: str, name: str, formats: tuple[Format, ...]) -> FoundCamera:
    best = choose(formats, Options())
    query = ""
    if best is not None:
        rate = f"&fps={best.fps:g}" if best.fps else ""
        query = (
            f"?size={best.size}{rate}"
            if url.startswith("rpicam")
            else f"?format={best.codec}&size={best.size}{rate}"
        )
    return FoundCamera(url, name, formats, f"front={url}{query}")


def _pi_formats(text: str) -> tuple[Format, ...]:
    modes = _PI_MODE.finditer(text)
    return tuple(Format("mjpeg", Size(int(mode[1]), int(mode[2])), float(mode[3])) for mode in modes)


def _rpicam_cameras() -> tuple[FoundCamera, ...]:
    program = find_rpicam("hello")
    if program is None:
        return ()
    try:
        said = subprocess.run(
            [program, "--list-cameras"], capture_output=True, text=True, timeout=_LIST_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_rpicam_list(said.stdout + said.stderr)


def _v4l2_devices() -> tuple[list[v4l2.VideoDevice], list[FoundCamera]]:
    devices, problems = [], []
    links = v4l2.links()
    for path in sorted(Path("/dev").glob("video[0-9]*"), key=lambda path: int(path.name[5:])):
        try:
            devices.append(v4l2.describe(v4l2.lasting(str(path), links)))
        except CameraUnavailable as error:
            # Of a camera's several devices most deliver no pictures. Only missing permission is news.
            if "may not be opened" in str(error):
                problems.append(
                    FoundCamera(f"v4l2://{path}", path.name, (), f"front=v4l2://{path}", str(error))
                )
    return devices, problems
