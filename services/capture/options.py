"""The options that a camera's address may have, and which sources take them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import SetupError, did_you_mean, nearest
from services.common.runtime.trust import Trust
from services.common.wire.scope import MOST_FACE_PX, Mask, Scope, read_mask

MAX_SIDE_PX = 16_384
QUERIED = frozenset({"rtsp", "rtsps", "http", "https"})
"""Addresses of these may have options of the camera's own."""

_MISSPELT = 0.85
"""How alike (see `nearest`) a word of a camera's own may not be. Hikvision's `transportmode` is less."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to treat one camera. None means: as it comes.

    Attributes:
        size: what a camera is asked for; what larger pictures are scaled down to.
        fps: frames per second, at most; None: as many as are worth looking at.
        format: what the source delivers: for `v4l2` a pixel format's name (`mjpeg`, `yuyv422`), for `exec`
            `multipart` (default), `jpeg` or `y4m`, elsewhere `mjpeg` to pass frames through unlooked-at.
        quality: of JPEG that is encoded here, 1 to 100; None: as capture's settings say.
        rotate: clockwise, in degrees: 0, 90, 180 or 270.
        paced: whether a file waits for the answer to each of its frames.
        loop: whether a file starts over at its end.
        hwaccel: ffmpeg's name of a hardware decoder (`auto`, `cuda`, `vaapi`, ...).
        transport: `tcp` or `udp`, for RTSP.
        threads: that decode; 0: as many as ffmpeg likes.
        tls_verify: whether the certificate of a camera that speaks TLS is checked.
        ca_file: the path of the certificates that may have signed it, in place of the system's.
        tls_sha256: the SHA-256, in lower-case hexadecimal, of the only certificate that is accepted.
        mask: regions that are never looked at, see `Scope`.
        min_face_px: the least width and height of a face in this camera's pictures, in pixels.
        quiet_s: how long a topic may be silent until its camera is stalled, in seconds; 0: for ever.
    """

    size: Size | None = None
    fps: float | None = None
    format: str | None = None
    quality: int | None = None
    rotate: int = 0
    paced: bool = False
    loop: bool = False
    hwaccel: str | None = None
    transport: str = "tcp"
    threads: int = 1
    tls_verify: bool = True
    ca_file: str | None = None
    tls_sha256: str | None = None
    mask: Mask = ()
    min_face_px: int = 0
    quiet_s: float = 60.0

    @property
    def scope(self) -> Scope:
        """Which part of its pictures, and which faces, are looked at."""
        return Scope(self.mask, self.min_face_px)

    @property
    def trust(self) -> Trust:
        """How the certificate that the camera shows is checked."""
        return Trust(self.tls_verify, self.ca_file, self.tls_sha256)


def takes(scheme: str) -> frozenset[str]:
    """Return the names of the options that a kind of source has."""
    return _TAKEN.get(scheme, _DECODED)


def may_be_ours(name: str, scheme: str) -> bool:
    """Say whether the name of a parameter in a camera's address is an option of ours, or like one."""
    return name in _OPTIONS or nearest(name, takes(scheme), _MISSPELT) is not None


def parse_option(camera: str, scheme: str, name: str, value: str) -> tuple[str, Any]:
    """Return an option's name and what its value means.

    Raises:
        SetupError: there is no such option, or it has no such value; says what there is.
    """
    if name not in _OPTIONS:
        raise SetupError(f"camera {camera!r}: {_no_option(scheme, name)}")
    meaning, parse = _OPTIONS[name]
    try:
        return name, parse(value)
    except (ValueError, KeyError):
        raise SetupError(f"camera {camera!r}: {name}={value[:40]} is not {meaning}") from None


def _no_option(scheme: str, name: str) -> str:
    meant = did_you_mean(name, takes(scheme))
    # In a broker's address a word that is like none may be a part of a password with a `?`.
    what = f"no option {name[:40]!r}" if meant or not scheme.startswith("mqtt") else "no such option"
    own = ""
    if scheme in QUERIED:
        own = f"; if the camera wants it, write it as %{ord(name[0]):02x}{name[1:]}"
    elif scheme != "exec":
        own = "; a '?' in a name is written as %3F"
    listed = f"there are {', '.join(sorted(takes(scheme)))}"
    return f"{scheme} takes {what}{f'{meant} ' if meant else '; '}{listed}{own}"


def _size(text: str) -> Size:
    width, height = (int(side) for side in text.split("x"))
    if not (16 <= width <= MAX_SIDE_PX and 16 <= height <= MAX_SIDE_PX):
        raise ValueError(text)
    return Size(width, height)


def _one_of(*choices: str) -> Callable[[str], str]:
    return {choice: choice for choice in choices}.__getitem__


def _between(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not low <= (value := float(text)) <= high:
            raise ValueError(text)
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text[:10]) <= high):
            raise ValueError(text)
        return int(text)

    return parse


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,20}", text, re.ASCII):
        raise ValueError(text)
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError(text)
    return text


def _sha256(text: str) -> str:
    """Read a digest as browsers and `openssl x509 -fingerprint` show it, too."""
    digits = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits, re.ASCII):
        raise ValueError(text)
    return digits


_FLAG = {"1": True, "0": False, "true": True, "false": False}.__getitem__
_OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "size": ("a size such as 1280x720", _size),
    "fps": ("a number of frames per second, 0.01 to 1000", _between(0.01, 1000)),
    "format": ("a format's name", _word),
    "quality": ("a JPEG quality from 1 to 100", _whole(1, 100)),
    "rotate": ("0, 90, 180 or 270", {"0": 0, "90": 90, "180": 180, "270": 270}.__getitem__),
    "paced": ("0 or 1", _FLAG),
    "loop": ("0 or 1", _FLAG),
    "hwaccel": ("a hardware decoder's name", _word),
    "threads": ("a number of threads, 0 to 64", _whole(0, 64)),
    "transport": ("tcp or udp", _one_of("tcp", "udp")),
    "tls_verify": ("0 or 1", _FLAG),
    "ca_file": ("the whole path of a file", _path),
    "mask": (
        "a polygon, x,y of three corners or more from 0 to 1 of width and height, a ';' before the next",
        read_mask,
    ),
    "min_face_px": (
        f"a number of pixels, 0 to {MOST_FACE_PX}",
        _whole(0, MOST_FACE_PX),
    ),
    "quiet_s": ("a number of seconds, 0 to 86400", _between(0, 86_400)),
    "tls_sha256": ("the 64 hexadecimal digits of a certificate's SHA-256", _sha256),
}
_SCOPE = frozenset({"mask", "min_face_px"})
_DECODED = _SCOPE | {"size", "fps", "format", "quality", "rotate", "hwaccel", "threads"}
_TLS = frozenset({"tls_verify", "ca_file", "tls_sha256"})
_TOPIC = _SCOPE | {"fps", "quality", "quiet_s"}
_TAKEN = {
    "file": _DECODED | {"paced", "loop"},
    "rtsp": _DECODED | {"transport"},
    "rtsps": _DECODED | {"transport"} | _TLS,
    "https": _DECODED | _TLS,
    "mqtt": _TOPIC,
    "mqtts": _TOPIC | _TLS,
    "csi": _SCOPE | frozenset({"size", "fps", "quality", "rotate"}),
    "rpicam": _SCOPE | frozenset({"size", "fps", "quality", "rotate"}),
    "test": _SCOPE | frozenset({"size", "fps", "quality"}),
    "exec": _SCOPE | frozenset({"fps", "format", "quality"}),
}
"""What a source can do; to ask it for more is an error, not ignored."""
