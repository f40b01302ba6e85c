"""One third of benchmarks.start: from `docker compose up` to the first stored face."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.containers.engine import ROOT, Project, build_images, docker, start_engine, until
from tests.containers.site import Site

PREPARED, BROKERS, CONNECTED = "prepared", "brokers up", "services connected"
FRAME, FOUND, STORED = "first frame", "first face found", "first face stored"
MILESTONES = (PREPARED, BROKERS, CONNECTED, FRAME, FOUND, STORED)
"""What every start passes, in this order."""

EDGE = ("capture", "detect", "forward")
PATIENCE_S = 90.0
_PID_FILE = Path("/var/run/docker.pid")

Events = list[dict[str, Any]]


class NoEngine(Exception):
    """There are no containers to be had here; says why."""


@dataclass(frozen=True, slots=True)
class Composed:
    """When what was passed, in seconds.

    Attributes:
        milestones: those of every start, from the first `docker compose up` on.
        moments: what Compose waited for, from there on, too.
        services: from each service's container's start until all its links were up.
        is_unheard: whether the first frames went out before detect could hear of them.
    """

    milestones: dict[str, float]
    moments: dict[str, float]
    services: dict[str, float]
    is_unheard: bool


def compose_rounds(rounds: int, clip: Path, folder: Path) -> list[Composed]:
    """Start both sides so many times over, each time from nothing but the images.

    Raises:
        NoEngine: there is none, or no round is asked for.
    """
    if rounds < 1:
        raise NoEngine("it was not asked for")
    with _engine_and_images():
        secrets = folder / "site"
        secrets.mkdir()
        site = Site(secrets)
        return [compose(site, clip, folder) for _ in range(rounds)]


def compose(site: Site, clip: Path, folder: Path) -> Composed:
    """Start the cloud's side and then a device's, with a clip as its camera, up to the first stored face."""
    camera = {"FACEFERRY_CAMERAS": f"front=file:///recordings/{clip.name}?loop=1"}
    settings = {**site.edge_settings(clip.parent, clip.name), **camera}
    with (
        Project([ROOT / "compose/cloud/compose.yaml"], site.cloud_settings(), folder) as cloud,
        Project([ROOT / "compose/edge/compose.yaml"], settings, folder) as edge,
    ):
        began = datetime.now(UTC)
        cloud.up()
        cloud_up = datetime.now(UTC)
        edge.up()
        edge_up = datetime.now(UTC)
        until(lambda: cloud.ids("store", "store.face_stored"), PATIENCE_S)
        events = {"store": cloud.events("store"), **{name: edge.events(name) for name in EDGE}}
        started = {name: _started(edge if name in EDGE else cloud, name) for name in events}
    return _composed(events, started, began=began, cloud_up=cloud_up, edge_up=edge_up)


def _composed(
    events: Mapping[str, Events],
    started: Mapping[str, datetime],
    *,
    began: datetime,
    cloud_up: datetime,
    edge_up: datetime,
) -> Composed:
    connected = {name: max(_link_times(told)) for name, told in events.items()}
    # Compose starts services as soon as their broker is healthy.
    edge_broker, edge_connected = min(started[name] for name in EDGE), max(connected[name] for name in EDGE)
    milestones = {
        PREPARED: cloud_up,
        BROKERS: edge_broker,
        CONNECTED: edge_connected,
        FRAME: _first(events["capture"], "capture.camera_online"),
        FOUND: _first(events["detect"], "detect.face_found"),
        STORED: _first(events["store"], "store.face_stored"),
    }
    moments = {
        "cloud: broker healthy": started["store"],
        "cloud: store connected": connected["store"],
        "cloud: `up` returns": cloud_up,
        "edge: broker healthy": edge_broker,
        "edge: services connected": edge_connected,
        "edge: first face stored": milestones[STORED],
        "edge: `up` returns": edge_up,
    }
    return Composed(
        {name: (at - began).total_seconds() for name, at in milestones.items()},
        {name: (at - began).total_seconds() for name, at in moments.items()},
        {name: (at - started[name]).total_seconds() for name, at in connected.items()},
        any(event.get("reason") == "unanswered" for event in events["capture"]),
    )


def _first(events: Events, name: str) -> datetime:
    return min(datetime.fromisoformat(event["timestamp"]) for event in events if event["event"] == name)


def _link_times(events: Events) -> list[datetime]:
    """Return when each of a service's links was up for the first time."""
    up = [event for event in events if event["event"] == "mqtt.link_up"]
    return [
        _first([event for event in up if event["link"] == link], "mqtt.link_up")
        for link in sorted({event["link"] for event in up})
    ]


def _started(project: Project, service: str) -> datetime:
    return datetime.fromisoformat(project.containers(service)[0]["State"]["StartedAt"])


@contextlib.contextmanager
def _engine_and_images() -> Iterator[None]:
    """See to it that there are both; an engine that did not run before is ended, unless others use it now."""
    if os.geteuid() != 0:
        raise NoEngine("only root may give secrets to the containers' user")
    was_running = _engine() is not None
    try:
        start_engine()
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise NoEngine(str(error)) from error
    try:
        build_images()
        yield
    finally:
        if not was_running:
            _end_engine()


def _engine() -> psutil.Process | None:
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return psutil.Process(int(_PID_FILE.read_text()))
    return None


def _end_engine() -> None:
    process = _engine()
    if process is not None and not docker("ps", "-q"):
        process.terminate()
        process.wait(30)
