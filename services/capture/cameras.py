"""Which cameras there are and how to treat them, as `FACEFERRY_CAMERAS` says it."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from services.capture.topic import parse_topic
from services.common.errors import SetupError
from services.common.places import file_url, unquote_path
from services.common.scope import MOST_FACE_PX, MOST_POLYGONS, Mask, Scope, read_mask
from services.common.topics import NAME_PATTERN, RESERVED_CAMERAS, is_name
from services.common.trust import Trust

SCHEMES = ("v4l2", "rtsp", "rtsps", "http", "https", "mqtt", "mqtts", "file", "csi", "rpicam", "exec", "test")
TOPICS = frozenset({"mqtt", "mqtts"})
NETWORK = frozenset({"rtsp", "rtsps", "http", "https"}) | TOPICS
MAX_SIDE_PX = 16_384

# URLs and commands may hold commas, so a comma separates only where `name=scheme://` or `name=exec:`
# follows. A line end always does.
_SEPARATOR = re.compile(rf"\s*\n\s*|\s*,\s*(?={NAME_PATTERN}=(?:exec:|[a-z][a-z0-9+.-]*://))")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII)
_URL = re.compile(r"exec:|[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to treat one camera; nothing means: as it comes.

    Attributes:
        size: what a camera is asked for; what larger pictures are scaled down to.
        fps: frames per second, at most.
        format: what the source delivers: for `v4l2` a pixel format's name (`mjpeg`, `yuyv422`), for `exec`
            `multipart` (default), `jpeg` or `y4m`, elsewhere `mjpeg` to pass frames through unlooked-at.
        quality: of JPEG that is encoded here, 1 to 100.
        rotate: clockwise, in degrees: 0, 90, 180 or 270.
        paced: whether a file waits for the answer to each of its frames.
        loop: whether a file starts over at its end.
        hwaccel: ffmpeg's name of a hardware decoder (`auto`, `cuda`, `vaapi`, ...).
        transport: `tcp` or `udp`, for RTSP.
        threads: that decode; 0: as many as ffmpeg likes.
        tls_verify: whether the certificate of an `https` or `rtsps` camera is looked at,
        ca_file: who may have signed it, in place of those whom the system trusts,
        tls_sha256: the digest of the one that will do.
        mask: regions that are never looked at, see `Scope`.
        min_face_px: the least width and height of a face in this camera's pictures, in pixels.
        quiet_s: for so many seconds a topic may be silent until its camera is called stalled; 0: for ever.
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
        """What is looked at of its pictures."""
        return Scope(self.mask, self.min_face_px)

    @property
    def trust(self) -> Trust:
        """Whose certificate the camera has to show."""
        return Trust(self.tls_verify, self.ca_file, self.tls_sha256)


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of this device.

    Attributes:
        name: as in topics.
        scheme: one of `SCHEMES`.
        url: where it is, without our options, with its credentials: never to be logged.
        options: how to treat it.
    """

    name: str
    scheme: str
    url: str = field(repr=False)
    options: Options

    @property
    def place(self) -> str:
        """What stands behind the scheme: a path, a number, or a command."""
        rest = self.url.partition(":")[2]
        return rest if self.scheme == "exec" else unquote_path(rest.removeprefix("//"))


def parse_cameras(text: str) -> tuple[Camera, ...]:
    """Read `name=URL?option=value&...`, separated by commas or line ends.

    A comma separates only where another `name=scheme://` (or `name=exec:`) follows it.

    Raises:
        SetupError: naming the part that cannot be understood, without credentials.
    """
    cameras = tuple(parse_camera(part) for part in _SEPARATOR.split(text.strip(" \t\r\n,")) if part)
    names = [camera.name for camera in cameras]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SetupError(f"two cameras are named {min(repeated)!r}")
    return cameras


def parse_camera(text: str) -> Camera:
    """Read one `name=URL?option=value&...`.

    Raises:
        SetupError: naming what is wrong, without credentials.
    """
    name, equals, url = text.strip().partition("=")
    if not equals or not is_name(name):
        # Where the name is missing, that is an address, with its password.
        what = repr(name[:80]) if "://" not in name and "@" not in name else "an address"
        raise SetupError(f"{what} is no camera name: lower-case letters, digits and '-', then '=' and a URL")
    if name in RESERVED_CAMERAS:
        raise SetupError(f"a camera cannot be named {name!r}: that topic is the service's")
    scheme = match[1] if (match := _SCHEME.match(url)) else ""
    if scheme not in SCHEMES or (scheme != "exec" and not url.startswith(f"{scheme}://")):
        raise SetupError(f"camera {name!r}: the URL starts with none of {', '.join(SCHEMES)}")
    url, pairs = _split_command(url) if scheme == "exec" else _split_query(url)
    options = _together(name, [_parse_option(name, *pair) for pair in pairs])
    return _checked(Camera(name, scheme, url, Options(**options)), options)


def to_url(place: str) -> str:
    """Return the URL of what a user pointed at: a URL stays, a device is a camera, else it is a file.

    What is there is a file, whatever its name looks like.
    """
    if (scheme := _URL.match(place)) and not is_there(place):
        return scheme[0].lower() + place[scheme.end() :]
    if re.fullmatch(r"/dev/(video\d+|v4l/by-\w+/[^/]+)", place):
        return f"v4l2://{quote(os.fsencode(place), safe='/:')}"
    return file_url(place)


def is_there(place: str) -> bool:
    """Say whether a user's word is the name of something on this machine."""
    try:
        return Path(place).exists()
    except (OSError, ValueError):  # too long, or with a character that no name can have
        return False


def _split_query(url: str) -> tuple[str, list[tuple[str, str]]]:
    """Take our options out of a URL's query; what else is in it belongs to the camera and stays."""
    before, mark, query = url.partition("?")
    pairs = [part.partition("=") for part in query.split("&") if part]
    ours = [(name, unquote(value)) for name, _, value in pairs if name in _OPTIONS]
    theirs = "&".join(name + equals + value for name, equals, value in pairs if name not in _OPTIONS)
    return (f"{before}{mark}{theirs}" if theirs else before), ours


def _split_command(url: str) -> tuple[str, list[tuple[str, str]]]:
    """Take the options off a command: they are its last word, if that starts with `?`."""
    command, space, last = url.rstrip().rpartition(" ")
    if not space or not last.startswith("?"):
        return url, []
    pairs = (part.partition("=") for part in last[1:].split("&"))
    return command.rstrip(), [(name, unquote(value)) for name, _, value in pairs]


def _parse_option(camera: str, name: str, value: str) -> tuple[str, Any]:
    if name not in _OPTIONS:
        raise SetupError(
            f"camera {camera!r}: there is no option {name[:40]!r}; there are {', '.join(_OPTIONS)}"
        )
    meaning, parse = _OPTIONS[name]
    try:
        return name, parse(value)
    except (ValueError, KeyError):
        raise SetupError(f"camera {camera!r}: {name}={value[:40]} is not {meaning}") from None


def _together(camera: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return options by name. Masks add up; of another option that is given twice one would be lost."""
    options: dict[str, Any] = {}
    for name, value in pairs:
        if name not in options:
            options[name] = value
        elif name == "mask":
            options[name] += value
        else:
            raise SetupError(f"camera {camera!r}: {name} is given twice")
    if len(options.get("mask", ())) > MOST_POLYGONS:
        raise SetupError(f"camera {camera!r}: a mask has at most {MOST_POLYGONS} polygons")
    return options


def _checked(camera: Camera, given: Iterable[str]) -> Camera:
    if foreign := set(given) - _TAKEN.get(camera.scheme, _DECODED):
        takes = ", ".join(sorted(_TAKEN.get(camera.scheme, _DECODED)))
        raise SetupError(f"camera {camera.name!r}: {camera.scheme} takes no {min(foreign)}, but {takes}")
    if camera.scheme in NETWORK and not camera.url.isprintable():
        raise SetupError(f"camera {camera.name!r}: no address has control characters")
    if "\0" in camera.place:
        raise SetupError(f"camera {camera.name!r}: no name holds the character that %00 stands for")
    if camera.options.paced and camera.options.loop:
        raise SetupError(f"camera {camera.name!r}: a paced file plays once; take loop or paced away")
    if camera.scheme == "rpicam" and camera.options.rotate not in (0, 180):
        raise SetupError(f"camera {camera.name!r}: rpicam can rotate by 180 degrees only")
    if camera.scheme == "exec":
        _check_command(camera)
    if camera.scheme in TOPICS:
        parse_topic(camera.name, camera.url)
    return camera


def _check_command(camera: Camera) -> None:
    try:
        words = shlex.split(camera.place)
    except ValueError as error:
        raise SetupError(f"camera {camera.name!r}: the command cannot be split into words: {error}") from None
    if not words:
        raise SetupError(f"camera {camera.name!r}: exec: wants a command")
    if camera.options.format not in (None, "multipart", "jpeg", "y4m"):
        raise SetupError(f"camera {camera.name!r}: exec: delivers multipart, jpeg or y4m")


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
    "quality": ("a JPEG quality from 1 to 100", lambda text: int(_between(1, 100)(text))),
    "rotate": ("0, 90, 180 or 270", {"0": 0, "90": 90, "180": 180, "270": 270}.__getitem__),
    "paced": ("0 or 1", _FLAG),
    "loop": ("0 or 1", _FLAG),
    "hwaccel": ("a hardware decoder's name", _word),
    "threads": ("a number of threads, 0 to 64", lambda text: int(_between(0, 64)(text))),
    "transport": ("tcp or udp", _one_of("tcp", "udp")),
    "tls_verify": ("0 or 1", _FLAG),
    "ca_file": ("the whole path of a file", _path),
    "mask": (
        "a polygon, x,y of three corners or more from 0 to 1 of width and height, a ';' before the next",
        read_mask,
    ),
    "min_face_px": (
        f"a number of pixels, 0 to {MOST_FACE_PX}",
        lambda text: int(_between(0, MOST_FACE_PX)(text)),
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
