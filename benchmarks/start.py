"""How long a user waits for the first stored face.

    python -m benchmarks.start [--rounds 5] [--compose-rounds 2] [--clip FILE] [--json FILE]

From `./scripts/up`, and from `docker compose up` in the cloud and then at the edge, with what is passed on
the way; each service alone, from its process's start to its connections; and what loading them consists of.
The containers need a Docker engine and root, and are left out where these cannot be had.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

from benchmarks.clips import FOUR_FACES, VIDEOS
from benchmarks.containers import (
    BROKERS,
    CONNECTED,
    FOUND,
    FRAME,
    MILESTONES,
    PREPARED,
    STORED,
    Composed,
    NoEngine,
    compose_rounds,
)
from benchmarks.loading import (
    ALONE,
    COMMAND,
    LINKS,
    MODULES,
    Alone,
    load,
    packages,
    running,
    service_programs,
    start_alone,
)
from benchmarks.report.alone import alone
from benchmarks.report.findings import Cell, Figure, Part, Plot, Table
from benchmarks.rig import median
from services.up.plan import SERVICES
from tests.containers.engine import ROOT
from tests.support import SHARED, wait_for_port

UP, COMPOSE = "./scripts/up", "docker compose up"
CHECKS = "source scripts/environment; need_mosquitto; need_packages up"
"""What `scripts/up` does before it runs `faceferry up`."""
TIMEOUT_S = 120.0
MOST_PACKAGES = 9
ABOUT = """\
{rounds} rounds of `./scripts/up` with a looped clip as its camera and a fresh folder, with nothing to
install, the model at hand, and every file in memory: a round that does not count comes first. {compose} A
milestone counts when those before it are passed, too; prepared means that `up` has checked source and folder,
or that the cloud's side is up and healthy. Each service alone, {rounds} rounds: from its process's start to
its last connection, with nothing beside it but its brokers, as after a restart or with `--scale`.
"""
COMPOSED = (
    "{rounds} rounds of `docker compose up -d --wait` in compose/cloud, with its own S3 server, and then in "
    "compose/edge, with images that are built and volumes that are new."
)
LEFT_OUT = "Docker Compose was left out: {why}."

_ALL_LINKS = sum(LINKS.get(name, 1) for name in SERVICES)
_LINK_UP = re.compile(rf"^((?:{'|'.join(SERVICES)}) *\| mqtt\.link_up link=\S+)")
_BROKERS = re.compile(r"local broker mqtt://127.0.0.1:(\d+), cloud broker mqtt://127.0.0.1:(\d+)")
_SIGNS = {"capture.camera_online": FRAME, "detect.face_found": FOUND, "store.face_stored": STORED}
_UNHEARD = "capture.frame_dropped reason=unanswered"


@dataclass(frozen=True, slots=True)
class Started:
    """One run of `./scripts/up`.

    Attributes:
        milestones: when each was passed, in seconds from the command.
        is_unheard: whether the first frames went out before detect could hear of them.
    """

    milestones: dict[str, float]
    is_unheard: bool


@dataclass(slots=True)
class Found:
    """All rounds, in seconds."""

    starts: list[Started] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)
    command: list[float] = field(default_factory=list)
    services: dict[str, list[Alone]] = field(default_factory=lambda: {name: [] for name in ALONE})
    composed: list[Composed] = field(default_factory=list)

    @property
    def ways(self) -> dict[str, list[dict[str, float]]]:
        """The milestones of each round, by what was run."""
        up, composed = ([one.milestones for one in rounds] for rounds in (self.starts, self.composed))
        return {UP: up, COMPOSE: composed} if composed else {UP: up}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many counts")
    parser.add_argument("--compose-rounds", type=int, default=2, help="likewise; 0: no containers")
    parser.add_argument("--clip", type=Path, default=VIDEOS / FOUR_FACES[0], help="with a face at its start")


def measure(options: argparse.Namespace) -> Part:
    """Measure all of it."""
    clip: Path = options.clip.resolve()
    _checks_s(os.environ)  # installs what is missing
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        folder = Path(made)
        environment = _environment(folder)
        found = _without_containers(options.rounds, clip, folder, environment)
        spent = {name: packages(module, environment) for name, module in MODULES.items()}
        how = COMPOSED.format(rounds=options.compose_rounds)
        try:
            found.composed = compose_rounds(options.compose_rounds, clip, folder)
        except NoEngine as why:
            how = LEFT_OUT.format(why=why)
    return Part(
        name="start",
        title="From the command to the first stored face",
        about=ABOUT.format(rounds=options.rounds, compose=how),
        figures=_figures(found),
        tables=(
            _milestones_table(found),
            *_compose_tables(found),
            _alone_table(found),
            _packages_table(spent),
        ),
        plots=(_plot(found),),
    )


def start(clip: Path, folder: Path, environment: Mapping[str, str]) -> Started:
    """Run `./scripts/up` until it has stored a face."""
    folder.mkdir()
    source = ["--source", f"{clip.as_uri()}?loop=1", "--store", str(folder / "faces")]
    began_s = time.monotonic()
    with running([str(ROOT / "scripts/up"), *source], environment, folder, subprocess.PIPE) as process:
        assert process.stdout is not None
        deadline = threading.Timer(TIMEOUT_S, process.terminate)
        deadline.start()
        try:
            return _follow(map(bytes.decode, process.stdout), lambda: time.monotonic() - began_s)
        finally:
            deadline.cancel()


def _follow(lines: Iterable[str], clock: Callable[[], float]) -> Started:
    """Read what `up` says until a face is stored."""
    said: list[str] = []
    links: set[str] = set()
    passed: dict[str, float] = {}
    for line in lines:
        said.append(line)
        if ports := _BROKERS.search(line):
            passed[PREPARED] = clock()
            for port in ports.groups():
                wait_for_port(int(port))
            passed[BROKERS] = clock()
        links.update(_LINK_UP.findall(line))
        if len(links) == _ALL_LINKS:
            passed.setdefault(CONNECTED, clock())
        for sign, milestone in _SIGNS.items():
            if sign in line:
                passed.setdefault(milestone, clock())
        if len(passed) == len(MILESTONES):
            return Started(passed, any(_UNHEARD in earlier for earlier in said))
    raise RuntimeError(f"no face was stored: {''.join(said[-20:])}")


def _without_containers(rounds: int, clip: Path, folder: Path, environment: Mapping[str, str]) -> Found:
    found = Found()
    start(clip, folder / "first", environment)
    with service_programs(clip, folder, environment) as services:
        for program in services.values():
            start_alone(program, folder, environment)
        for number in range(rounds):
            print(f"round {number + 1}", file=sys.stderr)
            found.starts.append(start(clip, folder / f"up-{number}", environment))
            found.checks.append(_checks_s(environment))
            found.command.append(load(MODULES[COMMAND], environment))
            for name, program in services.items():
                found.services[name].append(start_alone(program, folder, environment))
    return found


def _environment(folder: Path) -> dict[str, str]:
    """Return a user's environment: without settings, and with bytecode, which is kept in a folder here."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FACEFERRY_") or name in ("FACEFERRY_VENV", "FACEFERRY_PYTHON")
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment | {
        "FACEFERRY_DEVICE": "bench",
        "FACEFERRY_LOG_LEVEL": "debug",
        "FACEFERRY_MODEL_DIR": os.environ.get("FACEFERRY_MODEL_DIR", str(SHARED / "models")),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "XDG_STATE_HOME": str(folder / "state"),
    }


def _checks_s(environment: Mapping[str, str]) -> float:
    began_s = time.monotonic()
    subprocess.run(["bash", "-c", CHECKS], env=environment, cwd=ROOT, check=True)
    return time.monotonic() - began_s


def _medians(rounds: Sequence[Mapping[str, float]]) -> list[float]:
    """Return when each milestone was passed, and those before it."""
    in_order = [accumulate((one[name] for name in MILESTONES), max) for one in rounds]
    return [median(list(times)) for times in zip(*in_order, strict=True)]


def _figures(found: Found) -> tuple[Figure, ...]:
    waits = {f"{way}: to the first stored face": _medians(each)[-1] for way, each in found.ways.items()}
    waits |= {"scripts/up: its checks": median(found.checks), f"{COMMAND}: loaded": median(found.command)}
    for name, each in found.services.items():
        waits[f"{name} alone: connected"] = median([one.connected for one in each])
    return tuple(Figure(name, value, "less", unit="s") for name, value in waits.items())


def _milestones_table(found: Found) -> Table:
    slowest = max(found.ways[UP], key=lambda milestones: milestones[STORED])
    rows: list[tuple[Cell, ...]] = [(way, *_medians(each)) for way, each in found.ways.items()]
    rows.insert(1, (f"{UP}, slowest round", *_medians([slowest])))
    unheard = [one.is_unheard for rounds in (found.starts, found.composed) for one in rounds]
    return Table(
        "From the command on, in seconds",
        ("way", *MILESTONES),
        tuple(rows),
        f"In {sum(unheard)} of {len(unheard)} rounds capture's first frames went out before detect was "
        "connected, and it waited for their answers in vain before it sent others.",
    )


def _compose_tables(found: Found) -> tuple[Table, ...]:
    if not found.composed:
        return ()
    moments = [
        (name, median([one.moments[name] for one in found.composed])) for name in found.composed[0].moments
    ]
    return (Table("What Compose waits for, from the command on", ("moment", "s"), tuple(moments)),)


def _alone_table(found: Found) -> Table:
    return Table(
        "Each alone, in seconds from its process's start",
        ("program", "loaded", "listens", "connected", "connected, in a container with all the others"),
        (
            (COMMAND, median(found.command), None, None, None),
            *(
                (
                    name,
                    median([one.loaded for one in each]),
                    median([one.listens for one in each]),
                    median([one.connected for one in each]),
                    _in_container(name, found.composed),
                )
                for name, each in found.services.items()
            ),
        ),
        f"Before `{COMMAND}` the script takes {median(found.checks):.2f} s to see that nothing is missing. "
        "Between loaded and listening detect opens its model and capture asks ffmpeg what it can do.",
    )


def _in_container(service: str, composed: Sequence[Composed]) -> float | None:
    times = [one.services[service] for one in composed if service in one.services]
    return median(times) if times else None


def _packages_table(spent: Mapping[str, Counter[str]]) -> Table:
    total = sum(spent.values(), Counter[str]())
    names = [name for name, _ in total.most_common(MOST_PACKAGES)]
    rows: list[tuple[Cell, ...]] = [(name, *(each[name] for each in spent.values())) for name in names]
    rest = [each.total() - sum(each[name] for name in names) for each in spent.values()]
    return Table(
        "What loading consists of, in milliseconds by package",
        ("package", *spent),
        (*rows, ("all others", *rest), ("all", *(each.total() for each in spent.values()))),
        "One run of `python -X importtime`, which itself takes some time. A developer's environment has "
        "`rich`, which structlog loads where it finds it; a user's and the images have not.",
    )


def _plot(found: Found) -> Plot:
    passed = {way: [0.0, *_medians(each)] for way, each in found.ways.items()}
    steps = {way: [after - before for before, after in pairwise(times)] for way, times in passed.items()}
    return Plot(
        name="start",
        title="From the command to the first stored face",
        kind="bars",
        x="",
        y="seconds",
        series={
            name: tuple((way, step[at]) for way, step in steps.items()) for at, name in enumerate(MILESTONES)
        },
    )


def main() -> int:
    """Run it alone."""
    return alone(__doc__, measure, add_options)


if __name__ == "__main__":
    raise SystemExit(main())
