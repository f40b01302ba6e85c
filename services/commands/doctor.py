"""Checks whether this machine has what a run needs, and says how to repair what is missing."""

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services.commands.stores import missing_folder
from services.common.errors import SetupError
from services.common.mqtt.credentials import SOON_S, authority_expiry_s, chain_expiry_s
from services.common.retention import parse_retention
from services.common.runtime import variables
from services.common.storage.locations import DEFAULT_STORE, store_url
from services.common.wire.times import from_unix_s

if TYPE_CHECKING:
    from services.common.mqtt.broker import Broker


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Attributes:
        is_fine: whether it passed.
        text: what was found, or what is wrong and how to repair it.
        is_needed: whether a run cannot work without it.
    """

    is_fine: bool
    text: str
    is_needed: bool = True


Check = Callable[[], Awaitable[Finding]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry doctor`."""
    parser.add_argument(
        "--store", metavar="URL_OR_PATH", help=f"default: FACEFERRY_STORE_URL, else {DEFAULT_STORE}"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print each finding; return 1 where something that is needed is missing."""
    store = options.store or os.environ.get("FACEFERRY_STORE_URL") or DEFAULT_STORE
    return asyncio.run(_run(store))


async def _run(store: str) -> int:
    async def check_store() -> Finding:
        return await _store(store_url(store))

    checks: dict[str, Check] = {
        "python": _python,
        "broker": _broker,
        "ffmpeg": _ffmpeg,
        "detector": _detector,
        "cameras": _cameras,
        "store": check_store,
        "cloud": _cloud,
        "settings": _settings,
        "retention": _retention,
        "spool": _spool,
        "certificates": _certificates,
        "clock": _clock,
    }
    status = 0
    for name, check in checks.items():
        finding = await _carefully(check)
        mark = "ok  " if finding.is_fine else ("FIX " if finding.is_needed else "note")
        print(f"{mark} {name:12} {finding.text}")
        if finding.is_needed and not finding.is_fine:
            status = 1
    return status


async def _carefully(check: Check) -> Finding:
    try:
        return await check()
    except SetupError as error:
        return Finding(is_fine=False, text=str(error))
    except OSError as error:  # a name that no file can have, a folder that may not be searched
        return Finding(is_fine=False, text=str(error)[:300])
    except ImportError as error:
        return Finding(is_fine=False, text=f"{error.name} is not installed: pip install 'faceferry[all]'")


async def _python() -> Finding:
    return Finding(is_fine=True, text=f"{platform.python_version()} at {sys.executable}")


async def _broker() -> Finding:
    from services.up.brokers import find_mosquitto  # noqa: PLC0415

    return Finding(is_fine=True, text=find_mosquitto())


async def _ffmpeg() -> Finding:
    from services.capture.source.ffmpeg import choose_ffmpeg, named_in  # noqa: PLC0415

    found = choose_ffmpeg(named_in(os.environ))
    text = f"{found.program} ({found.version})"
    if not found.passed_over:
        return Finding(is_fine=True, text=text)
    problem = "; ".join(found.passed_over)
    return Finding(is_fine=False, is_needed=False, text=f"{text} is used, because {problem}")


async def _detector() -> Finding:
    from services.detect.detector_choice import forecast  # noqa: PLC0415, I001 - before onnxruntime: see its package
    import onnxruntime  # noqa: PLC0415

    taken = forecast(os.environ)
    providers = ", ".join(onnxruntime.get_available_providers())
    text = f"{taken.detector}: {taken.why}; providers: {providers}"
    if taken.is_best:
        return Finding(is_fine=True, text=text)
    where = "`faceferry models` names where models come from; FACEFERRY_MODEL_DIR may name a folder with them"
    return Finding(is_fine=False, is_needed=False, text=f"{text}; {where}")


async def _cameras() -> Finding:
    from services.capture.source.devices import cameras_of_this_machine  # noqa: PLC0415

    cameras = cameras_of_this_machine()
    if not cameras:
        return Finding(
            is_fine=False, is_needed=False, text="none on this machine; network cameras are named by URL"
        )
    problems = [f"{camera.url}: {camera.problem}" for camera in cameras if camera.problem]
    if problems:
        return Finding(is_fine=False, is_needed=False, text="; ".join(problems))
    return Finding(is_fine=True, text=", ".join(f"{camera.url} ({camera.name})" for camera in cameras))


async def _store(url: str) -> Finding:
    from services.up.checks import check_store  # noqa: PLC0415

    folder = missing_folder(url)
    if folder is not None and os.access(next(each for each in folder.parents if each.exists()), os.W_OK):
        text = (
            f"{folder} is not there yet: `faceferry up` makes {DEFAULT_STORE} in the folder that it is run in"
        )
        return Finding(is_fine=True, text=text)
    await check_store(url, url)
    return Finding(is_fine=True, text=f"{url} can be written")


async def _cloud() -> Finding:
    from services.common.mqtt.broker import Broker  # noqa: PLC0415
    from services.common.runtime.settings import read  # noqa: PLC0415
    from services.common.runtime.shared_settings import CloudSettings  # noqa: PLC0415

    if not os.environ.get("FACEFERRY_CLOUD_MQTT_URL"):
        return Finding(is_fine=True, text="FACEFERRY_CLOUD_MQTT_URL names no broker here")
    brokers = Broker.cloud(read(CloudSettings))
    found = await asyncio.gather(*(_look_at(broker) for broker in brokers))
    is_any_there = any(is_there for is_there, _ in found)
    return Finding(
        is_fine=all(is_there for is_there, _ in found),
        text="; ".join(said for _, said in found),
        is_needed=not is_any_there,  # faces wait, or take the other brokers
    )


async def _look_at(broker: "Broker") -> tuple[bool, str]:
    """Return whether a broker accepts our connection, and its limits or the reason in words."""
    from services.common.mqtt import BrokerUnavailable, probe  # noqa: PLC0415

    try:
        limits = await probe(broker)
    except BrokerUnavailable as error:
        return False, f"{broker.address}: {error}"
    return True, f"{broker.address} lets us in ({limits.words})"


async def _settings() -> Finding:
    if problems := variables.unknown(os.environ):
        return Finding(is_fine=False, is_needed=False, text="; ".join(problems.values()))
    return Finding(is_fine=True, text="each FACEFERRY_ variable here is one that is read")


async def _retention() -> Finding:
    named = os.environ.get("FACEFERRY_RETAIN_DAYS")
    if not named:
        text = "FACEFERRY_RETAIN_DAYS is not set: faces stay until they are deleted"
        return Finding(is_fine=False, is_needed=False, text=text)
    try:
        retention = parse_retention(named)
    except ValueError as error:
        raise SetupError(f"FACEFERRY_RETAIN_DAYS: {error}") from error
    until = retention.until(datetime.now(UTC))
    if until is None:
        return Finding(is_fine=True, text="faces are kept for ever, as FACEFERRY_RETAIN_DAYS says")
    text = (
        f"faces are kept for {retention}; one of now until {until:%Y-%m-%d}: see `faceferry retain --check`"
    )
    return Finding(is_fine=True, text=text)


async def _spool() -> Finding:
    from services.commands.spool import default_folder  # noqa: PLC0415
    from services.forward.spool.disk import DATABASE  # noqa: PLC0415
    from services.forward.spool.holdings import look  # noqa: PLC0415

    folder = default_folder()
    if not (folder / DATABASE).exists():
        return Finding(is_fine=True, text=f"none yet at {folder}")
    contents = look(folder, time.time())
    text = f"{contents.faces} faces wait at {folder}"
    problems = [f"{count} set aside: {reason}" for reason, count in contents.set_aside.items()]
    if contents.quarantined:
        problems.append(f"{contents.quarantined} in quarantine")
    if contents.damaged:
        problems.append(
            f"was damaged and replaced; look at the disk, then remove {', '.join(contents.damaged)}"
        )
    if problems:
        return Finding(
            is_fine=False, is_needed=False, text=f"{text}; {'; '.join(problems)} (`faceferry spool`)"
        )
    return Finding(is_fine=True, text=text)


async def _certificates() -> Finding:
    try:
        ends_s = {path: _expiry_s(path) for path in _certificate_files()}
    except PermissionError as error:
        text = f"{error.filename} may not be read by this user: sudo faceferry doctor says more"
        return Finding(is_fine=False, is_needed=False, text=text)
    if not ends_s:
        return Finding(is_fine=True, text="none named in the environment, and none in ./secrets")
    now_s = time.time()
    near = {path: end_s for path, end_s in ends_s.items() if end_s - now_s <= SOON_S}
    if not near:
        first = min(ends_s, key=ends_s.__getitem__)
        return Finding(is_fine=True, text=f"the first to expire is {first}, on {_day(ends_s[first])}")
    said = [
        f"{path} {'expired' if end_s <= now_s else 'expires'} on {_day(end_s)}"
        for path, end_s in near.items()
    ]
    return Finding(
        is_fine=False,
        is_needed=min(near.values()) <= now_s,
        text=f"{'; '.join(said)}: `faceferry pki renew` makes a new one",
    )


def _certificate_files() -> list[Path]:
    """Return the certificates in the settings of services, and those in the folder that compose uses."""
    named = [os.environ.get(f"FACEFERRY_CLOUD_{which}_FILE") for which in ("CA", "CERT")]
    secrets = Path("secrets")
    found = sorted(secrets.iterdir()) if secrets.is_dir() else []
    return [*(Path(name) for name in named if name), *(path for path in found if path.suffix == ".crt")]


def _expiry_s(path: Path) -> float:
    is_authority = path.name == "ca.crt" or str(path) == os.environ.get("FACEFERRY_CLOUD_CA_FILE")
    try:
        return (authority_expiry_s if is_authority else chain_expiry_s)(path.read_bytes())
    except ValueError as error:
        raise SetupError(f"{path}: {error}") from error


def _day(time_s: float) -> str:
    return f"{from_unix_s(time_s):%Y-%m-%d}"


async def _clock() -> Finding:
    from services.capture.clock import is_synchronised  # noqa: PLC0415

    if is_synchronised():
        return Finding(is_fine=True, text="synchronised")
    return Finding(
        is_fine=False,
        is_needed=False,
        text="not synchronised: faces will be marked so; start a time service (systemd-timesyncd, chrony)",
    )
