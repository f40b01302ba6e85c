"""Why a run over recordings makes no progress: one sentence, from the state of its services."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from services.common.runtime.metrics import Samples

TIMEOUT_S = 10.0
NO_ROOM_BYTES = 1024 * 1024
"""With less room on its disk a spool counts as full."""

_FULL = re.compile(r"\bfull\b|No space left")
_IN_THE_DOCUMENTS = "docs/troubleshooting.md, 'What keeps the store from its bucket', has each reason"

Checks = Mapping[str, str]
"""A service's dependencies by name: `ok`, or what is wrong."""


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run that makes no progress.

    Attributes:
        services: each service's checks by its name; None where it does not answer.
        store: the store's URL.
        folder: where faces wait.
        room_bytes: free bytes on its disk.
        cameras: the state of each camera by name, where capture answers.
        has_frames: whether any frame was answered.
    """

    services: Mapping[str, Checks | None]
    store: str
    folder: Path
    room_bytes: int
    cameras: Mapping[str, str] = field(default_factory=dict)
    has_frames: bool = False


def cause(found: RunState) -> str:
    """Return the cause and what to do; a cause that others only wait for comes first."""
    return (
        _of_disk(found)
        or _of_store(found.store, (found.services.get("store") or {}).get("store", "ok"))
        or _of_silence(found)
        or _of_checks(found)
        or _of_cameras(found)
        or "no service says why; on a slow machine --timeout waits for longer"
    )


def _of_disk(found: RunState) -> str | None:
    spool = (found.services.get("forward") or {}).get("spool", "ok")
    if found.room_bytes < NO_ROOM_BYTES or _FULL.search(spool):
        return (
            f"the disk is full that {found.folder} is on, where faces wait: make room there, or name another "
            "place in XDG_STATE_HOME"
        )
    return None


def _of_store(url: str, said: str) -> str | None:
    if said == "ok":
        return None
    if _FULL.search(said):
        return f"{url} is full: make room there and run the same again, for what waits is kept"
    advice = _IN_THE_DOCUMENTS if url.startswith("s3://") else "may this user write there, and is it mounted?"
    return f"{url} takes no faces ({said}): {advice}"


def _of_silence(found: RunState) -> str | None:
    silent = [name for name, checks in found.services.items() if checks is None]
    if not silent:
        return None
    return f"{' and '.join(silent)} did not answer: the lines above say whether it ended, and why"


def _of_checks(found: RunState) -> str | None:
    problems = [
        f"{service}: {name}: {said}"
        for service, checks in found.services.items()
        for name, said in (checks or {}).items()
        if said != "ok"
    ]
    if any("budget" in problem for problem in problems):
        problems.append("FACEFERRY_SPOOL_MAX_BYTES says what it may hold")
    return "; ".join(problems) or None


def _of_cameras(found: RunState) -> str | None:
    away = [f"{name} is {state}" for name, state in found.cameras.items() if state != "online"]
    if away:
        return f"no frames come: {', '.join(away)}; the lines of capture above have its program's words"
    return (
        None if found.has_frames else "no frame was answered: the lines of detect above say whether it runs"
    )


async def state_of_run(ports: Mapping[str, int], store: str, folder: Path, *, has_frames: bool) -> RunState:
    """Return the state of a run, read from all of its services.

    Args:
        ports: each service's HTTP port, by name.
        store: the store's URL.
        folder: where faces wait.
        has_frames: whether any frame was answered.
    """
    services = {name: _checks(await _ask(port, "readyz")) for name, port in ports.items()}
    states = (await samples_of(ports["capture"])).of("faceferry_capture_state")
    cameras = {labels["camera"]: labels["faceferry_capture_state"] for labels, value in states if value == 1}
    disk = os.statvfs(folder)
    return RunState(services, store, folder, disk.f_bavail * disk.f_frsize, cameras, has_frames)


async def samples_of(port: int) -> Samples:
    """Return the metrics of a service on this machine; none if it does not answer."""
    try:
        return Samples(await _ask(port, "metrics"))
    except ValueError:
        return Samples("")


async def _ask(port: int, page: str) -> str:
    """Return a page of a service on this machine; `""` if it does not answer."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.get(f"http://127.0.0.1:{port}/{page}") as response,
        ):
            return await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return ""


def _checks(text: str) -> Checks | None:
    return {str(name): str(said) for name, said in json.loads(text)["checks"].items()} if text else None
