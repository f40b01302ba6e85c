"""What is known of a source when its program is about to start, and what that program writes."""

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
        argv: its command line, which every user of the machine can read; without passwords, but for those in
            a command of the user's own.
        output_format: what it writes.
        environment: what to add to its environment, which no other user can read; nothing: what to take away.
    """

    argv: tuple[str, ...]
    output_format: OutputFormat
    environment: Mapping[str, str | None] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """What ffmpeg is told in place of a camera's address; see `relay`.

    Attributes:
        url: an address without secrets.
        proxy: the HTTP proxy that it has to be asked through, if there is one.
    """

    url: str
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known about a source, and the machine, when its program is about to start.

    Attributes:
        ffmpeg: the ffmpeg program.
        rpicam: the Raspberry Pi camera program (`libcamera-vid` on older systems).
        codec: what the source delivers, by ffmpeg's name, as far as that is known. A `v4l2` device is asked
            for it, for
        size: this, and
        fps: this.
        is_turned: whether the source says that its pictures have to be turned or mirrored, which ffmpeg does
            with what it decodes.
        http_kind: how an `http` address answers; nothing: not known yet.
        is_boundless: whether its parts are such that only what they hold can be read, for ffmpeg is strict
            about what stands between them.
        most_fps: how many of a live camera's decoded pictures are worth carrying, a second; nothing for all.
        has_zscale: whether ffmpeg has that filter, and it works on this camera's pictures.
        is_hwaccel_off: whether hardware decoding has failed before.
        relay_address: the way to a camera on a network.
        python: what runs this code.
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
    """Return a fresh reader of what a program writes."""
    match output_format:
        case OutputFormat.MULTIPART:
            return MultipartReader()
        case OutputFormat.JPEG:
            return JpegReader()
        case OutputFormat.Y4M:
            from services.capture.stream.y4m import Y4mReader  # noqa: PLC0415 - brings numpy, see `pictures`

            return Y4mReader()
