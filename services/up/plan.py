"""What a run on this machine consists of: from what the user asked for to programs and their settings."""

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.capture.cameras import Camera, is_there, parse_camera, to_url
from services.common.errors import SetupError
from services.common.topics import NAME_PATTERN, is_name
from services.up.keys import USER, Keys
from services.up.supervisor import Program

SERVICES = ("store", "forward", "detect", "capture")
"""In the order of their start: whoever takes something is there before whoever brings it."""

GALLERY = "gallery"
"""Last of all, and only where there is time to look: a run over recordings ends by itself."""

_NAMED = re.compile(rf"({NAME_PATTERN})=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        sources: paths, URLs or `name=` either.
        store: a URL or a folder's path.
        is_once: play files once, every frame of them, and end.
        is_json: close with one JSON object on standard output.
        timeout_s: give up when nothing has moved for so long.
        detector: `auto`, `yunet` or `haar`.
        keep: `visits` or `every`.
        is_shared: whether others are on this machine, of whom brokers and pages ask for a password.
    """

    sources: Sequence[str]
    store: str
    is_once: bool
    is_json: bool
    timeout_s: float
    detector: str
    keep: str
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything of one run is.

    Attributes:
        device: this device's name.
        cameras: each camera as `FACEFERRY_CAMERAS` says it.
        store_url: where the faces go.
        folder: where the spool and the journal are; the same for each run with the same store, so that faces
            of a run that was cut short still arrive.
        local_port: of the broker on the device's side, and
        cloud_port: of the one in the cloud's place.
        http_ports: of the services, by name.
        detector: which one is asked for.
        keep: which faces are.
        gallery_port: where the faces can be looked at; 0 where nobody will.
        keys: what brokers and pages ask for; nothing where nobody else is on this machine.
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
    keys: Keys | None = None

    @property
    def gallery_url(self) -> str:
        """The page with the faces."""
        return f"http://127.0.0.1:{self.gallery_port}/"

    @property
    def live_url(self) -> str:
        """The page with what the cameras see."""
        return f"http://127.0.0.1:{self.http_ports['capture']}/live"

    @property
    def local_url(self) -> str:
        """The broker that cameras and detect speak to."""
        return f"mqtt://{self._user}127.0.0.1:{self.local_port}"

    @property
    def cloud_url(self) -> str:
        """The broker in the cloud's place."""
        return f"mqtt://{self._user}127.0.0.1:{self.cloud_port}"

    @property
    def _user(self) -> str:
        return f"{USER}@" if self.keys is not None else ""

    @property
    def journal_path(self) -> Path:
        """Where capture notes the answers to paced frames."""
        return self.folder / "journal.jsonl"

    @property
    def spool_path(self) -> Path:
        """Where forward holds the faces."""
        return self.folder / "spool"


def camera_settings(sources: Sequence[str], *, is_once: bool) -> tuple[str, ...]:
    """Return one `name=URL?option=value` a source; those without a name become `camera`, `camera-2`, ...

    Raises:
        SetupError: a source cannot be understood, or cannot be played once.
    """
    settings = []
    for number, source in enumerate(sources, start=1):
        # A file may have an equals sign in its name.
        named = None if is_there(source) else _NAMED.fullmatch(source)
        name = named[1] if named else ("camera" if number == 1 else f"camera-{number}")
        setting = f"{name}={to_url(named[2] if named else source)}"
        if is_once:
            setting = _paced(setting)
        parse_camera(setting)
        settings.append(setting)
    return tuple(settings)


def _paced(setting: str) -> str:
    camera: Camera = parse_camera(setting)
    if camera.scheme != "file":
        raise SetupError(f"--once plays files; {camera.name!r} is none and has no end")
    return setting if camera.options.paced else f"{setting}{'&' if '?' in setting else '?'}paced=1"


def device_name(environment: Mapping[str, str]) -> str:
    """Return the device's name: the setting, else one made of the host's name."""
    if named := environment.get("FACEFERRY_DEVICE"):
        return named
    name = re.sub("[^a-z0-9-]", "-", socket.gethostname().lower()).strip("-")[:63]
    return name if is_name(name) else "this-device"


def programs(plan: Plan, environment: Mapping[str, str], mosquitto: str) -> list[Program]:
    """Return what to run, in the order of the start."""
    brokers = [
        Program(name, [mosquitto, "-c", str(plan.folder / f"{name}.conf")], environment)
        for name in ("cloud", "local")
    ]
    return brokers + [
        Program(
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


def _settings(plan: Plan) -> dict[str, str]:
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
    """Return where the services find this package, installed or not, and what was there before."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), environment.get("PYTHONPATH")]))
