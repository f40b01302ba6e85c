"""Shows devices, cameras, links and waiting faces on one screen, as the services report them."""

import argparse
import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import aiohttp

from services.commands.status_facts import (
    KNOWN_BY,
    CameraState,
    LastFace,
    ServiceAnswer,
    Status,
    put_together,
)
from services.common.errors import SetupError
from services.common.runtime.arguments import address
from services.common.runtime.metrics import Samples

_GREEN, _RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


MOST_LASTS = 12
"""Last faces that are shown, the newest."""


class _Mark(Protocol):
    def __call__(self, text: str, *, is_good: bool) -> str: ...


def screen(status: Status, *, is_coloured: bool) -> list[str]:
    """Return the lines of the screen."""

    def mark(text: str, *, is_good: bool) -> str:
        return f"{_GREEN if is_good else _RED}{text}{_PLAIN}" if is_coloured else text

    def lines() -> Iterator[str]:
        devices = sorted({each.device for each in status.processes if each.device})
        yield f"Faceferry{': ' if devices else ''}{', '.join(devices)}"
        yield ""
        for process in status.processes:
            state = mark(f"{'ready' if process.is_ready else 'not ready':9}", is_good=process.is_ready)
            yield f"  {process.service:8} {process.address:24} {state} for {duration(process.up_s)}"
            for name, why in process.problems.items():
                yield f"           {name}: {why}"
        for place, why in status.unreachable.items():
            yield f"  {'?':8} {place:24} {mark('no answer', is_good=False)}: {why}"
        yield from _block("cameras", (_camera(each, mark) for each in status.cameras))
        yield from _block(
            "links",
            (
                f"{each.service:8} {each.link:16} {each.broker:28} "
                + mark("up" if each.is_up else "down", is_good=each.is_up)
                for each in status.links
            ),
        )
        yield from _block(
            "waiting",
            (
                f"{each.where:20} {each.faces:7} faces"
                + ("" if not each.faces or each.oldest_s is None else f", oldest {duration(each.oldest_s)}")
                + (f": {each.why}" if each.why else "")
                for each in status.waiting
            ),
        )
        yield from _block("last faces", (_last(each) for each in status.lasts[:MOST_LASTS]))
        if status.faces:
            yield from _block(
                "since then", [", ".join(f"{what} {count}" for what, count in status.faces.items())]
            )

    return list(lines())


def duration(seconds: float) -> str:
    """Return a time as text, in its two largest units."""
    whole = int(seconds)
    parts = [
        (whole // 86_400, "d"),
        (whole % 86_400 // 3_600, "h"),
        (whole % 3_600 // 60, "min"),
        (whole % 60, "s"),
    ]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or unit == "s")


def _block(title: str, entries: Iterable[str]) -> Iterator[str]:
    found = list(entries)
    if found:
        yield ""
        yield title
        yield from (f"  {entry}" for entry in found)


def _last(each: LastFace) -> str:
    where = (
        "stored" if each.camera is None else f"{each.device}/{each.camera}" if each.device else each.camera
    )
    return f"{where:24} {duration(each.ago_s)} ago"


def _camera(each: CameraState, mark: _Mark) -> str:
    rates = (
        "" if each.frames_s is None else f", {each.frames_s:g} frames/s, {each.looked_at_s or 0:g} looked at"
    )
    where = f"{each.device}/{each.camera}" if each.device else each.camera
    why = f" ({each.why})" if each.why else ""
    return f"{where:24} {mark(each.state, is_good=each.is_well)}{why}{rates}"


PORT = 8080
"""HTTP port of the services in containers."""
TIMEOUT_S = 3.0
EVERY_S = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "addresses",
        nargs="*",
        type=address,
        metavar="HOST:PORT",
        help="of a service's FACEFERRY_HTTP_PORT; default: every replica that this network knows "
        f"by name ({', '.join(KNOWN_BY)}), as in: docker compose exec forward faceferry status",
    )
    parser.add_argument("--json", action="store_true", help="print it once, as JSON")
    parser.add_argument("--once", action="store_true", help="print it once, as where this is no terminal")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the status; return 0 if all is well, else 1.

    Raises:
        SetupError: no service is named or found.
    """
    addresses = options.addresses or _found()
    if not addresses:
        raise SetupError(
            "no service is known by its name here: name them, as in faceferry status 127.0.0.1:8080"
        )
    is_live = sys.stdout.isatty() and not options.json and not options.once
    try:
        return asyncio.run(_show(addresses, is_live=is_live, as_json=options.json))
    except KeyboardInterrupt:
        return 0


async def _show(addresses: Sequence[str], *, is_live: bool, as_json: bool) -> int:
    before: dict[str, ServiceAnswer] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        await _look(session, addresses, before)
        while True:
            await asyncio.sleep(EVERY_S if is_live else 1.0)  # rates need two looks
            status = await _look(session, addresses, before)
            if as_json:
                print(json.dumps(status.as_json(), indent=2))
            else:
                lines = screen(status, is_coloured=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
                print((_CLEAR if is_live else "") + "\n".join(lines), flush=True)
            if not is_live:
                return 0 if status.is_well else 1


async def _look(
    session: aiohttp.ClientSession, addresses: Sequence[str], before: dict[str, ServiceAnswer]
) -> Status:
    """Ask all services, and keep the answers for the next look."""
    asked = await asyncio.gather(*(_ask(session, address) for address in addresses))
    answers = [each for each in asked if isinstance(each, ServiceAnswer)]
    silent = {address: each for address, each in zip(addresses, asked, strict=True) if isinstance(each, str)}
    status = put_together(answers, silent, before)
    before.clear()
    before |= {each.address: each for each in answers}
    return status


async def _ask(session: aiohttp.ClientSession, address: str) -> ServiceAnswer | str:
    """Return a service's answer, or the reason for having none."""
    try:
        async with session.get(f"http://{address}/readyz") as answer:
            body = await answer.json(content_type=None)
        checks, notes = _told(body)
        async with session.get(f"http://{address}/metrics") as answer:
            return ServiceAnswer(address, checks, Samples(await answer.text()), time.time(), notes)
    except TimeoutError:
        return f"nothing within {TIMEOUT_S:g} s"
    except (aiohttp.ClientError, OSError) as error:
        return str(error)
    except ValueError:
        return "what answers is none of our services"


def _told(body: object) -> tuple[dict[str, str], dict[str, str]]:
    """Return the checks and the notes in an answer of /readyz.

    Raises:
        ValueError: it has none.
    """
    match body:
        case {"checks": dict(checks), "notes": dict(notes)}:
            return _words(checks), _words(notes)
        case {"checks": dict(checks)}:
            return _words(checks), {}
    raise ValueError("no checks")


def _words(told: Mapping[object, object]) -> dict[str, str]:
    return {str(name): str(why) for name, why in told.items()}


def _found() -> list[str]:
    """Return the addresses of all replicas of services whose names the network knows."""
    found: dict[str, None] = {}
    for name in KNOWN_BY:
        try:
            known = socket.getaddrinfo(name, PORT, type=socket.SOCK_STREAM)
        except OSError:
            continue
        for *_, place in known:
            host = str(place[0])
            found[f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}"] = None
    return list(found)
