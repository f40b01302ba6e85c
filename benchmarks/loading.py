"""One third of benchmarks.start: each service alone, and what loading it consists of."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from services.up.brokers import find_mosquitto, free_port
from services.up.plan import GALLERY, SERVICES, Plan, programs
from services.up.supervisor import Program
from tests.support import MosquittoServer

COMMAND = "faceferry up"
ALONE = (*SERVICES, GALLERY)
MODULES = {COMMAND: "services.commands.up", **{name: f"services.{name}.__main__" for name in ALONE}}
LINKS = {"forward": 2, "store": 2}
"""How many connections a service has, where that is not one."""
TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

_IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| +(\w+)")


@dataclass(frozen=True, slots=True)
class Alone:
    """One start of a service, in seconds from its process's: code loaded, port open, all links up."""

    loaded: float
    listens: float
    connected: float


@contextlib.contextmanager
def running(
    command: list[str], environment: Mapping[str, str], folder: Path, output: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a folder; it has ended when this returns."""
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                # Its last words are read, too: a full pipe would keep it from ending.
                process.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def service_programs(
    clip: Path, folder: Path, environment: Mapping[str, str]
) -> Iterator[dict[str, Program]]:
    """Both brokers run; the services, by name, are ready to be started over and over."""
    with contextlib.ExitStack() as stack:
        local, cloud = (MosquittoServer(folder).start() for _ in range(2))
        stack.callback(local.kill)
        stack.callback(cloud.kill)
        plan = Plan(
            device="bench",
            cameras=(f"camera={clip.as_uri()}?loop=1",),
            store_url=(folder / "faces").as_uri(),
            folder=folder,
            local_port=local.port,
            cloud_port=cloud.port,
            http_ports={name: free_port() for name in ALONE},
            detector="yunet",
            keep="every",
            gallery_port=free_port(),
        )
        known = programs(plan, environment, find_mosquitto())
        yield {program.name: program for program in known if program.name in ALONE}


def start_alone(program: Program, folder: Path, environment: Mapping[str, str]) -> Alone:
    """Start a service, wait until it is connected, and end it."""
    log = folder / f"{program.name}.log"
    loaded_s = load(MODULES[program.name], environment)
    began_s = time.time()
    with (
        log.open("wb") as output,
        running([*program.arguments], program.environment, folder, output) as process,
    ):
        _wait(lambda: log.read_text().count("mqtt.link_up") >= LINKS.get(program.name, 1), process, log)
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return Alone(
        loaded_s,
        _last(events, "health.listening") - began_s,
        _last(events, "mqtt.link_up") - began_s,
    )


def load(module: str, environment: Mapping[str, str]) -> float:
    """Return how long a fresh Python takes until it has imported a module, in seconds."""
    began_s = time.time()
    told = _python(environment, "-c", f"import {module}, time; print(time.time())").stdout
    return float(told) - began_s


def packages(module: str, environment: Mapping[str, str]) -> Counter[str]:
    """Return the milliseconds that each package takes of a module's import."""
    told = _python(environment, "-X", "importtime", "-c", f"import {module}").stderr
    spent: Counter[str] = Counter()
    for time_us, name in _IMPORT.findall(told):
        spent[_package(name)] += int(time_us)
    return Counter({name: time_us / 1e3 for name, time_us in spent.items()})


def _package(name: str) -> str:
    if name == "services":
        return "our own"
    return "Python's own" if name in sys.stdlib_module_names else name


def _python(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True
    )


def _wait(claim: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not claim():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"it did not connect: {log.read_text()[-2_000:]}")
        time.sleep(0.01)


def _last(events: list[dict[str, Any]], name: str) -> float:
    return max(
        datetime.fromisoformat(event["timestamp"]).timestamp() for event in events if event["event"] == name
    )
