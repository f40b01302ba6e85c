"""All four services and both brokers on this machine, as children of one process."""

import asyncio
import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.capture.cameras import parse_camera
from services.capture.check import check_source
from services.capture.source.devices import first_camera
from services.capture.source.redaction import shown
from services.common.errors import SetupError
from services.common.retention import FOREVER
from services.common.runtime import lock, variables
from services.common.runtime.files import file_url, make_folders
from services.common.storage.backends import open_store
from services.common.storage.listing import FaceName, which_are_stored
from services.common.storage.locations import DEFAULT_STORE, state_folder, store_url
from services.common.storage.settings import ObjectStoreSettings
from services.up import once, sweep
from services.up.blocked import cause, look
from services.up.brokers import find_mosquitto, free_port, loopback_config
from services.up.checks import check_settings, check_store
from services.up.console import Console, ended_in, second_choice_in
from services.up.demo import demo_clip
from services.up.keys import Keys
from services.up.leash import leashed
from services.up.once import Journal
from services.up.plan import (
    GALLERY,
    SERVICES,
    Plan,
    Request,
    camera_settings,
    device_name,
    named_sources,
    not_used,
    programs,
)
from services.up.supervisor import inherited, running

EXIT_INCOMPLETE = 1
GALLERY_PORT = 8000
_AGAIN = (
    "Ctrl-C ends this run, '?loop=1' behind a file's name plays it again and again, --once ends by itself"
)


async def up(request: Request) -> int:
    """Run everything until it is done (`--once`) or cancelled; return the exit status.

    Raises:
        SetupError: something only the user can repair.
    """
    async with leashed() as mark:
        return await _up(request, Console(), mark)


async def _up(request: Request, console: Console, mark: str) -> int:
    environment = _known(inherited(), console)
    mosquitto = find_mosquitto()
    url, called = where_to(request, environment)
    folder = state_folder(url, environment)
    gallery_port = _gallery_port(environment)
    device = device_name(environment)
    _make(folder)
    sources, is_demonstration = named_sources(request, environment), False
    if not sources:
        source, is_demonstration = default_source(console, folder.parent, is_once=request.is_once)
        sources = [source]
    cameras = camera_settings(sources, is_once=request.is_once)
    chosen = {
        "device": device,
        "cameras": "\n".join(cameras),
        "store_url": url,
        "detector": request.detector,
        "keep": request.keep,
    }
    check_settings(chosen, has_gallery=not request.is_once)
    for camera in cameras:
        await check_source(parse_camera(camera))
    await asyncio.to_thread(
        sweep.end, mark
    )  # a camera's program may have left something that keeps the camera
    await check_store(url, called)
    with _alone(folder, url):
        plan = Plan(
            device=device,
            cameras=cameras,
            store_url=url,
            folder=folder,
            local_port=free_port(),
            cloud_port=free_port(),
            http_ports={name: free_port() for name in (*SERVICES, GALLERY)},
            detector=request.detector,
            keep=request.keep,
            gallery_port=0 if request.is_once else free_port(gallery_port),
            keys=Keys(folder / "keys") if request.is_shared else None,
        )
        _prepare(plan)
        _introduce(console, plan)
        if is_demonstration and not request.is_once:
            _advise(console, plan)

        say = functools.partial(tell, console, is_once=request.is_once)
        try:
            async with running(programs(plan, environment, mosquitto), say):
                if request.is_once:
                    return await _run_once(request, plan, console)
                await asyncio.Event().wait()
        finally:
            console.say_last_words()
    return 0


def tell(console: Console, name: str, line: str, *, is_once: bool) -> None:
    """Pass on what a service says, and add what its user has to know of it."""
    console.line(name, line)
    if not is_once and (camera := ended_in(line)) is not None:
        console.line("up", f"{camera} is played to its end, and nothing more comes of it; {_AGAIN}")
    if (warning := second_choice_in(line)) is not None:
        console.keep_for_the_end(warning)


async def _run_once(request: Request, plan: Plan, console: Console) -> int:
    began_s = time.monotonic()
    journal = Journal(plan.journal_path, [parse_camera(camera).name for camera in plan.cameras])

    def progress(seen: Journal, waiting: int) -> None:
        console.progress(_progress_text(seen, waiting, time.monotonic() - began_s))

    try:
        await once.finish(journal, plan.spool_path, request.timeout_s, progress)
    except once.NoProgress as error:
        console.line("up", f"error: {error}: {await _why(plan, journal)}")
        return EXIT_INCOMPLETE
    finally:
        console.close()
    detector = await once.detector_of(plan.http_ports["detect"])
    outcome = await _outcome(plan, journal, time.monotonic() - began_s, detector)
    if request.is_json:
        sys.stdout.write(json.dumps(outcome.as_dict()) + "\n")
        sys.stdout.flush()
    console.line("up", outcome.as_text())
    return 0 if outcome.is_complete else EXIT_INCOMPLETE


async def _why(plan: Plan, journal: Journal) -> str:
    ports = {name: plan.http_ports[name] for name in SERVICES}
    return cause(await look(ports, plan.store_url, plan.folder, has_frames=journal.frames > 0))


async def _outcome(plan: Plan, journal: Journal, seconds: float, detector: str) -> once.Outcome:
    faces = {FaceName(plan.device, camera, face_id) for face_id, camera in journal.faces.items()}
    async with open_store(ObjectStoreSettings(store_url=plan.store_url)) as objects:
        stored = await which_are_stored(objects, faces)
    spool = once.held(plan.spool_path)
    refused = spool.refused if spool is not None else frozenset()
    sights = visits = None
    if plan.keep == "visits":
        sights, visits = await once.sights_and_visits(plan.http_ports["forward"])
    return once.Outcome(
        frames=journal.frames,
        faces=len(faces),
        stored=len(stored),
        refused=sum(face.id in refused for face in faces),
        seconds=round(seconds, 3),
        detector=detector,
        store=plan.store_url,
        sights=sights,
        visits=visits,
    )


def _progress_text(journal: Journal, waiting: int, elapsed_s: float) -> str:
    total = journal.all_frames
    text = f"{journal.frames}{f' of {total}' if total is not None else ''} frames, {len(journal.faces)} faces"
    if waiting:
        text += f", {waiting} on their way"
    if total and journal.frames:
        left_s = elapsed_s * (total - journal.frames) / journal.frames
        text += f", {left_s:.0f} s left"
    return text


def _known(environment: dict[str, str], console: Console) -> dict[str, str]:
    """Return an environment without those of our variables that nobody reads, which are named here, once."""
    unknown = variables.unknown(environment)
    for line in unknown.values():
        console.line("up", f"warning: {line}")
    if unused := not_used(environment):
        console.line("up", f"warning: not used here, for this run has its own: {', '.join(unused)}")
    return {name: value for name, value in environment.items() if name not in unknown}


def where_to(request: Request, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return where the faces go, and what the user calls that."""
    if request.store is not None:
        return store_url(request.store), f"--store {request.store}"
    if named := environment.get("FACEFERRY_STORE_URL"):
        return store_url(named), f"FACEFERRY_STORE_URL {named}"
    return (url := store_url(DEFAULT_STORE)), f"{url} (--store names another place)"


def default_source(console: Console, folder: Path, *, is_once: bool) -> tuple[str, bool]:
    """Return the first camera of this machine, or a demonstration clip in a folder; whether it is that."""
    if (camera := first_camera()) is not None:
        console.line("up", f"using the camera {camera.name}: {camera.url}")
        return camera.url, False
    again = "" if is_once else ", again and again until Ctrl-C"
    console.line("up", f"no camera found: playing a short demonstration clip{again}")
    clip = file_url(demo_clip(folder))
    return (clip if is_once else f"{clip}?loop=1"), True


@contextlib.contextmanager
def _alone(folder: Path, url: str) -> Iterator[None]:
    """Keep two runs from using one spool and one journal."""
    with lock.try_hold(folder) as is_ours:
        if not is_ours:
            raise SetupError(f"another `faceferry up` is already filling {url}")
        yield


def _make(folder: Path) -> None:
    try:
        make_folders(folder)
    except OSError as error:
        where = str(folder)[:300]
        raise SetupError(
            f"{where} cannot be made, where faces wait (XDG_STATE_HOME, else HOME): {error.strerror}"
        ) from error


def _prepare(plan: Plan) -> None:
    passwords = None
    if plan.keys is not None:
        plan.keys.write()
        passwords = plan.keys.broker_path
    (plan.folder / "local.conf").write_text(loopback_config(plan.local_port, passwords))
    (plan.folder / "cloud.conf").write_text(loopback_config(plan.cloud_port, passwords))
    plan.journal_path.unlink(missing_ok=True)


def _gallery_port(environment: Mapping[str, str]) -> int:
    """Return the port that the gallery is to have if it is free: the same each time can be bookmarked."""
    named = environment.get("FACEFERRY_GALLERY_PORT") or str(GALLERY_PORT)
    if not (named.isascii() and named.isdecimal() and len(named) < 6 and int(named) < 65_536):
        raise SetupError("FACEFERRY_GALLERY_PORT: a number from 0 to 65535 is wanted")
    return int(named)


def _introduce(console: Console, plan: Plan) -> None:
    for camera in map(parse_camera, plan.cameras):
        console.line("up", f"camera {camera.name}: {shown(camera.url)}")
    console.line("up", f"faces go to {plan.store_url}")
    days = os.environ.get("FACEFERRY_RETAIN_DAYS") or FOREVER
    kept = "until you delete them (FACEFERRY_RETAIN_DAYS)" if days == FOREVER else f"for {days} days"
    console.line("up", f"they are kept {kept}")
    if plan.gallery_port:
        console.line("up", f"look at the faces at {plan.gallery_url}, and at the cameras at {plan.live_url}")
    local, cloud = (f"mqtt://127.0.0.1:{port}" for port in (plan.local_port, plan.cloud_port))
    console.line("up", f"local broker {local}, cloud broker {cloud}")
    if plan.keys is not None:
        console.line(
            "up",
            f"others are on this machine: brokers and pages ask for what {plan.keys.password_path} holds",
        )
        console.line("up", f"to a broker: XDG_CONFIG_HOME={plan.keys.clients_path} mosquitto_pub -p PORT ...")


def _advise(console: Console, plan: Plan) -> None:
    """Say what to do next, to whoever is here for the first time."""
    console.line("up", f"next: open {plan.gallery_url} in a browser: the faces come as they are found")
    console.line("up", "next: a recording of yours: ./scripts/up clip.mp4")
    console.line(
        "up",
        "next: a camera: ./scripts/up /dev/video0, or ./scripts/up rtsp://user:password@camera/stream "
        "(`faceferry cameras` lists those of this machine and its network)",
    )
