"""What is known of a source when its program starts, and the format of that program's output."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.capture.options import Size
from services.capture.source.http_address import HttpKind
from services.capture.stream.jpegs import JpegReader
from services.capture.stream.multipart import MultipartReader
from services.capture.stream.picture import PictureReader


class OutputFormat(StrEnum):
    """What a camera's program writes to its standard output."""

    MULTIPART = "multipart"
    JPEG = "jpeg"
    Y4M = "y4m"


@dataclass(frozen=True, slots=True)
class Command:
    """A camera's program.

    Attributes:
        argv: its command line, which every user of the machine can read; without passwords, except in a
            command that the user has written.
        output_format: of its standard output.
        environment: variables to set for it, which no other user can read; None: to remove.
    """

    argv: tuple[str, ...]
    output_format: OutputFormat
    environment: Mapping[str, str | None] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """The address that ffmpeg is given in place of a camera's; see `relay`.

    Attributes:
        url: an address without secrets.
        proxy: the HTTP proxy through which it has to be requested; None: none.
    """

    url: str
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source, and of the machine, when its program starts.

    Attributes:
        ffmpeg: the ffmpeg program.
        rpicam: the Raspberry Pi camera program (`libcamera-vid` on older systems).
        codec: what the source delivers, by ffmpeg's name; None: unknown. A `v4l2` device is asked for it.
        size: what a `v4l2` device is asked for; None: its default.
        fps: frames per second that a `v4l2` device is asked for; None: its default.
        is_turned: whether the source says that its pictures have to be rotated or mirrored, which ffmpeg does
            when it decodes.
        http_kind: how an `http` address answers; None: unknown.
        is_boundless: whether ffmpeg has to ignore what stands between the JPEGs of a multipart stream, about
            which it is strict.
        most_fps: how many of a live camera's decoded pictures are worth carrying, a second; None: all.
        has_zscale: whether ffmpeg has that filter, and it works on this camera's pictures.
        is_hwaccel_off: whether hardware decoding has failed before.
        relay_address: of the relay to a camera on a network; None for other cameras.
        python: the interpreter that runs this code.
    """

    ffmpeg: str
    rpicam: str = "rpicam-vid"
    codec: str | None = None
    size: Size | None = None
    fps: float | None = None
    is_turned: bool = False
    http_kind: HttpKind | None = None
    is_boundless: bool = False
    most_fps: float | None = None
    has_zscale: bool = False
    is_hwaccel_off: bool = False
    relay_address: RelayAddress | None = None
    python: str = sys.executable


def make_reader(output_format: OutputFormat) -> PictureReader:
    """Return a new reader for a program's output."""
    match output_format:
        case OutputFormat.MULTIPART:
            return MultipartReader()
        case OutputFormat.JPEG:
            return JpegReader()
        case OutputFormat.Y4M:
            from services.capture.stream.y4m import Y4mReader  # noqa: PLC0415 - brings numpy, see `pictures`

            return Y4mReader()
