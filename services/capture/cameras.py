"""Which cameras there are and how to treat them, as `FACEFERRY_CAMERAS` says it."""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from services.capture.options import QUERIED, Options, may_be_ours, parse_option, takes
from services.capture.topic import parse_topic
from services.common.errors import SetupError, did_you_mean
from services.common.runtime.files import file_url, unquote_path
from services.common.wire.scope import MOST_POLYGONS
from services.common.wire.topics import NAME_PATTERN, RESERVED_CAMERAS, is_name

SCHEMES = ("v4l2", "rtsp", "rtsps", "http", "https", "mqtt", "mqtts", "file", "csi", "rpicam", "exec", "test")
TOPICS = frozenset({"mqtt", "mqtts"})
NETWORK = QUERIED | TOPICS

# URLs and commands may hold commas, so a comma separates only where `name=scheme://` or `name=exec:`
# follows. A line end always does.
_SEPARATOR = re.compile(rf"\s*\n\s*|\s*,\s*(?={NAME_PATTERN}=(?:exec:|[a-z][a-z0-9+.-]*://))")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII)
_URL = re.compile(r"exec:|[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of this device, as the settings describe it.

    Attributes:
        name: as in topics.
        scheme: one of `SCHEMES`.
        url: its address, without our options, with its credentials: never to be logged.
        options: how to treat it.
    """

    name: str
    scheme: str
    url: str = field(repr=False)
    options: Options

    @property
    def place(self) -> str:
        """What follows the scheme: a path, a number or a command."""
        rest = self.url.partition(":")[2]
        return rest if self.scheme == "exec" else unquote_path(rest.removeprefix("//"))


def parse_cameras(text: str) -> tuple[Camera, ...]:
    """Read `name=URL?option=value&...`, separated by commas or line ends.

    A comma separates only where another `name=scheme://` (or `name=exec:`) follows it.

    Raises:
        SetupError: naming the part that cannot be understood, without credentials.
    """
    cameras = tuple(parse_camera(part) for part in split_cameras(text))
    names = [camera.name for camera in cameras]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SetupError(f"two cameras are named {min(repeated)!r}")
    return cameras


def split_cameras(text: str) -> list[str]:
    """Split a text into parts, each of which describes one camera."""
    return [part for part in _SEPARATOR.split(text.strip(" \t\r\n,")) if part]


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
        meant = did_you_mean(scheme, SCHEMES)
        raise SetupError(f"camera {name!r}: the URL starts with none of {', '.join(SCHEMES)}{meant}")
    url, pairs = _split_command(url) if scheme == "exec" else _split_query(url, scheme)
    options = _together(name, [parse_option(name, scheme, *pair) for pair in pairs])
    return _checked(Camera(name, scheme, url, Options(**options)), options)


def to_url(place: str) -> str:
    """Return the URL of what a user pointed at: a URL stays, a device is a camera, else it is a file.

    What is there is a file, whatever its name looks like. Behind a file's name options may stand, as in URLs.
    """
    if (scheme := _URL.match(place)) and not is_there(place):
        return scheme[0].lower() + place[scheme.end() :]
    if re.fullmatch(r"/dev/(video\d+|v4l/by-\w+/[^/]+)", place):
        return f"v4l2://{quote(os.fsencode(place), safe='/:')}"
    path, mark, options = place.rpartition("?")
    if mark and not is_there(place) and is_there(path):
        return f"{file_url(path)}?{options}"
    return file_url(place)


def is_there(place: str) -> bool:
    """Say whether a file of that name exists on this machine."""
    try:
        return Path(place).exists()
    except (OSError, ValueError):  # too long, or with a character that no name can have
        return False


def _split_query(url: str, scheme: str) -> tuple[str, list[tuple[str, str]]]:
    """Take our options out of a URL's query; what else is in a camera's own belongs to it and stays."""
    before, mark, query = url.partition("?")
    pairs = [part.partition("=") for part in query.split("&") if part]
    is_ours = [scheme not in QUERIED or may_be_ours(name, scheme) for name, _, _ in pairs]
    ours = [(name, unquote(value)) for (name, _, value), ours in zip(pairs, is_ours, strict=True) if ours]
    theirs = "&".join("".join(pair) for pair, ours in zip(pairs, is_ours, strict=True) if not ours)
    return (f"{before}{mark}{theirs}" if theirs else before), ours


def _split_command(url: str) -> tuple[str, list[tuple[str, str]]]:
    """Take the options off a command: they are its last word, if that starts with `?`."""
    command, space, last = url.rstrip().rpartition(" ")
    if not space or not last.startswith("?"):
        return url, []
    pairs = (part.partition("=") for part in last[1:].split("&"))
    return command.rstrip(), [(name, unquote(value)) for name, _, value in pairs]


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
    taken = takes(camera.scheme)
    if foreign := set(given) - taken:
        raise SetupError(
            f"camera {camera.name!r}: {camera.scheme} takes no {min(foreign)}, but {', '.join(sorted(taken))}"
        )
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
