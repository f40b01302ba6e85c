from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from services.capture.cameras import Camera, parse_cameras
from services.common.errors import SetupError
from services.common.runtime.access import MIN_TOKEN_LENGTH
from services.common.runtime.settings import MayBeInFile, shown
from services.common.runtime.shared_settings import DeviceSettings, LooksSettings, TracesSettings


def _cameras(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        cameras = parse_cameras(value)
    except SetupError as error:
        raise ValueError(shown(str(error))) from None  # pydantic takes no message that is not UTF-8
    if not cameras:
        raise ValueError("names no camera; `faceferry cameras` lists those that are there")
    return cameras


class CaptureSettings(DeviceSettings, LooksSettings, TracesSettings):
    """Capture: takes frames from cameras and recordings and hands them to detect."""

    cameras: Annotated[tuple[Camera, ...], BeforeValidator(_cameras), MayBeInFile()] = Field(
        ...,
        repr=False,  # it may hold passwords
        description="name=URL?option=value&..., separated by line ends, commas before the next name=URL; "
        "URLs: v4l2:///dev/video0 rtsp:// http:// mqtt://broker/topic file:///path csi://0 rpicam://0 "
        "test:// exec:command; "
        "an http address that gives one picture at a time is asked fps times a second, 2 by default; "
        "options: size=1280x720 fps=10 quality=85 rotate=90 format=mjpeg hwaccel=auto transport=udp, "
        "min_face_px=80 mask=0,0,0.3,0,0.3,1,0,1 (what is never looked at, in parts of width and height), "
        "for topics quiet_s=60 (0: one may be silent for ever), "
        "for rtsps, https and mqtts ca_file=/path tls_sha256=HEX tls_verify=0, "
        "and for files paced=1 loop=1; those of exec: are its last word, ?option=value",
    )
    frames_in_flight: int = Field(4, ge=1, le=64, description="frames of one camera that may be unanswered")
    frame_timeout_s: float = Field(
        2.0,
        gt=0,
        le=60,
        description="seconds until an unanswered frame is given up; until a paced one is sent again",
    )
    stall_timeout_s: float = Field(
        5.0,
        gt=0,
        le=600,
        description="seconds without a frame until a camera's program is killed and started again",
    )
    start_timeout_s: float = Field(
        10.0, gt=0, le=600, description="seconds that a camera's program may take to its first frame"
    )
    jpeg_quality: int = Field(85, ge=1, le=100, description="of frames that capture encodes; 1 to 100")
    live_token: SecretStr | None = Field(
        None,
        min_length=MIN_TOKEN_LENGTH,
        description="the token for the live pictures at /live on the HTTP port, as a bearer token or as a "
        "password; without one they are shown on this machine alone, where the port listens on loopback",
    )
    ffmpeg: Path | None = Field(
        None,
        description="the ffmpeg program, 5.1 or newer; default: a good one on PATH, else imageio-ffmpeg's",
    )
    lock_path: Path | None = Field(
        None,
        description="a folder; of all captures that name the same one, one takes frames and the others stand "
        "by; default: no lock",
    )
    journal_path: Path | None = Field(
        None, description="where to note what became of each frame of a paced file, one JSON object a line"
    )
