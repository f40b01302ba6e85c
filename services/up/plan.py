"""The plan of a run on this machine: from the user's request to programs and their settings."""

import itertools
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.capture.cameras import is_there, parse_camera, split_cameras, to_url
from services.capture.source.redaction import redact, shown
from services.common.errors import SetupError
from services.common.runtime.variables import PREFIX
from services.common.wire.topics import is_name
from services.up.passwords import USER, RunPassword
from services.up.supervisor import ChildProgram

SERVICES = ("store", "forward", "detect", "capture")
"""In the order of their start: a receiver starts before its sender."""

GALLERY = "gallery"
"""Started last, and not for a run over recordings, which ends by itself."""

_OF_PATHS_AND_ADDRESSES = frozenset("/:?")
_MOST_SHOWN = 300


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The user's request, from the command line.

    Attributes:
        sources: paths or URLs, each perhaps with `name=` before it.
        store: a URL or a folder's path; None: FACEFERRY_STORE_URL, else a folder here.
        is_once: play files once, every frame of them, and end.
        is_json: end with one JSON object on standard output.
        timeout_s: seconds without progress after which a run with `is_once` gives up.
        detector: `auto`, `yunet`, `centerface` or `haar`.
        keep: `visits` or `every`.
        is_shared: whether the machine has other users, so that brokers and pages need a password.
    """

    sources: Sequence[str]
    store: str | None
    is_once: bool
    is_json: bool
    timeout_s: float
    detector: str
    keep: str
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The names, places and ports of one run.

    Attributes:
        device: this device's name.
        cameras: each camera as in `FACEFERRY_CAMERAS`.
        store_url: the store's URL.
        folder: holds the spool and the journal; the same for all runs with the same store, so that faces of a
            run that was interrupted still arrive.
        local_port: of the broker on the device's side.
        cloud_port: of the broker in place of the cloud's.
        http_ports: of the services, by name.
        detector: see `RunRequest`.
        keep: see `RunRequest`.
        gallery_port: of the gallery; 0: there is none.
        keys: the password of brokers and pages; None: they need none.
    """

    device: str
    cameras: tuple[str, ...]
    store_url: str
    folder: Path
    local_port: int
    cloud_port: int
    http_ports: Mapping[str, int]
    detector: str
    keep: str
    gallery_port: int = 0
    keys: RunPassword | None = None

    @property
    def gallery_url(self) -> str:
        """The page with the faces."""
        return f"http://127.0.0.1:{self.gallery_port}/"

    @property
    def live_url(self) -> str:
        """The page with live pictures of the cameras."""
        return f"http://127.0.0.1:{self.http_ports['capture']}/live"

    @property
    def local_url(self) -> str:
        """The URL of the broker for capture and detect."""
        return f"mqtt://{self._user}127.0.0.1:{self.local_port}"

    @property
    def cloud_url(self) -> str:
        """The URL of the broker in place of the cloud's."""
        return f"mqtt://{self._user}127.0.0.1:{self.cloud_port}"

    @property
    def _user(self) -> str:
        return f"{USER}@" if self.keys is not None else ""

    @property
    def journal_path(self) -> Path:
        """The journal, where capture notes the answers to paced frames."""
        return self.folder / "journal.jsonl"

    @property
    def spool_path(self) -> Path:
        """The spool's folder."""
        return self.folder / "spool"


def named_sources(request: RunRequest, environment: Mapping[str, str]) -> Sequence[str]:
    """Return the sources on the command line, else in the environment; may be empty."""
    if request.sources:
        return request.sources
    text = environment.get("FACEFERRY_CAMERAS", "")
    if not text and (path := environment.get("FACEFERRY_CAMERAS_FILE")):
        text = Path(path).read_text(errors="surrogateescape")
    return split_cameras(text)


def camera_settings(sources: Sequence[str], *, is_once: bool) -> tuple[str, ...]:
    """Return one `name=URL?option=value` a source; those without a name become `camera`, `camera-2`, ...

    Raises:
        SetupError: a source is malformed, or cannot be played once; the message names it as the user did.
    """
    parts = [_name_and_place(source) for source in sources]
    given = [name for name, _ in parts if name]
    if twice := next((name for name in given if given.count(name) > 1), None):
        raise SetupError(f"two sources are named {twice!r}")
    taken = set(given)
    settings = []
    for number, (source, (name, place)) in enumerate(zip(sources, parts, strict=True), start=1):
        camera = name or next(free for free in map(_numbered, itertools.count(number)) if free not in taken)
        taken.add(camera)
        try:
            settings.append(_setting(camera, to_url(place), is_once=is_once))
        except SetupError as error:
            problem = str(error).removeprefix(f"camera {camera!r}: ")
            raise SetupError(f"source {as_said(source)}: {problem}") from error
    return tuple(settings)


def _numbered(number: int) -> str:
    return "camera" if number == 1 else f"camera-{number}"


def as_said(source: str) -> str:
    """Return a source as the user named it, without credentials."""
    name, place = _name_and_place(source)
    is_address = "://" in place or place.startswith("exec:")
    return redact(f"{f'{name}=' if name else ''}{shown(place) if is_address else place}")[:_MOST_SHOWN]


def _name_and_place(source: str) -> tuple[str | None, str]:
    """Return a source's name, or None, and its place; a file's name or an address may have an `=`, too."""
    name, equals, place = source.partition("=")
    if not equals or set(name) & _OF_PATHS_AND_ADDRESSES or is_there(source):
        return None, source
    return name, place


def _setting(name: str, url: str, *, is_once: bool) -> str:
    if not is_name(name):
        raise SetupError(f"{name[:80]!r} is no camera name: lower-case letters, digits and '-', at most 63")
    camera = parse_camera(f"{name}={url}")
    if not is_once or camera.options.paced:
        return f"{name}={url}"
    if camera.scheme != "file":
        raise SetupError("--once plays files; this is none and has no end")
    if camera.options.loop:
        raise SetupError("--once plays a file once: take loop=1 away")
    return f"{name}={url}{'&' if '?' in url else '?'}paced=1"


def device_name(environment: Mapping[str, str]) -> str:
    """Return the device's name: the setting as it is, else one made from the host's name."""
    if named := environment.get("FACEFERRY_DEVICE"):
        return named
    name = re.sub("[^a-z0-9-]", "-", socket.gethostname().lower()).strip("-")[:63]
    return name if is_name(name) else "this-device"


def programs(plan: RunPlan, environment: Mapping[str, str], mosquitto: str) -> list[ChildProgram]:
    """Return the programs of a run, in the order of their start."""
    brokers = [
        ChildProgram(name, [mosquitto, "-c", str(plan.folder / f"{name}.conf")], environment)
        for name in ("cloud", "local")
    ]
    return brokers + [
        ChildProgram(
            name,
            [sys.executable, "-m", f"services.{name}"],
            {
                **environment,
                **_settings(plan),
                **(plan.keys.settings(environment) if plan.keys is not None else {}),
                "PYTHONPATH": _python_path(environment),
                "FACEFERRY_HTTP_PORT": str(plan.http_ports[name]),
            },
        )
        for name in (*SERVICES, *([GALLERY] if plan.gallery_port else []))
    ]


def not_used(environment: Mapping[str, str]) -> list[str]:
    """Return the variables in the environment that a run replaces by its own values."""
    return sorted(f"{PREFIX}{name}" for name in _OWN if environment.get(f"{PREFIX}{name}"))


_OWN = (
    "LOCAL_MQTT_URL", "CLOUD_MQTT_URL", "SPOOL_PATH", "JOURNAL_PATH", "GALLERY_LIVE", "HTTP_HOST", "HTTP_PORT"
)  # fmt: skip


def _settings(plan: RunPlan) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": plan.device,
        "FACEFERRY_LOCAL_MQTT_URL": plan.local_url,
        "FACEFERRY_CLOUD_MQTT_URL": plan.cloud_url,
        "FACEFERRY_CAMERAS": "\n".join(plan.cameras),
        "FACEFERRY_JOURNAL_PATH": str(plan.journal_path),
        "FACEFERRY_DETECTOR": plan.detector,
        "FACEFERRY_KEEP": plan.keep,
        "FACEFERRY_SPOOL_PATH": str(plan.spool_path),
        "FACEFERRY_STORE_URL": plan.store_url,
        "FACEFERRY_GALLERY_PORT": str(plan.gallery_port),
        "FACEFERRY_GALLERY_LIVE": f"{plan.device}={plan.live_url.removesuffix('/live')}",
        "FACEFERRY_LOG_FORMAT": "json",
        "FACEFERRY_HTTP_HOST": "127.0.0.1",
    }


def _python_path(environment: Mapping[str, str]) -> str:
    """Return `PYTHONPATH` with this package, installed or not, before its present value."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), environment.get("PYTHONPATH")]))
