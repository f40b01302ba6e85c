"""What integrations cost: processor time a face with and without them.

    python -m benchmarks.at_home [--rounds 5] [--repeats 10] [--only WAY ...]

A recording of people goes paced through the four services and both brokers into a folder: plain; beside
others (Home Assistant's entities, a webhook for each visit with its picture, and traces with the default
share of one frame in ten, which need the extra `otel`); watched (a page of the gallery is open and loads the
image of every face, and each service is scraped and asked for `/readyz` every 5 s); and sealed, for a
throw-away key. Start-up is not counted, and neither are the gallery and the receivers of messages and traces,
which run elsewhere.
"""

import argparse
import contextlib
import json
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path

from benchmarks.report.alone import alone, in_turns
from benchmarks.ways import Cost, flat_out, in_folder
from services.common.sealing.age import new_identity
from tests.rigs.clips import CROWD, FOUR_FACES, clip, shortened
from tests.rigs.pipeline import Rig, median
from tests.rigs.posting import posted_to
from tests.rigs.report.findings import Cell, Figure, Part, Table

ASKED_EVERY_S = 5.0
FRAMES_OF_CLIP = 45
PAIRS = {
    "visits, beside others": ("visits", 1.05),
    "every face, with traces": ("every face", 1.05),
    "every face, watched": ("every face", 1.05),
    "crowd, sealed": ("crowd", 1.15),
}
"""Each way, the same without, and how many times that it may cost."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: what is played, and how often."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10, help="how often a clip is played in a run")
    parser.add_argument("--only", action="append", choices=PAIRS, help="this way; repeatable")


def measure(options: argparse.Namespace) -> Part:
    """Play the clips in all variants, in turns."""
    pairs = {way: pair for way, pair in PAIRS.items() if way in (options.only or PAIRS)}
    wanted = {name for way, (without, _) in pairs.items() for name in (way, without)}
    paths: set[str] = set()

    def take(path: str, _body: bytes) -> int:
        paths.add(path)
        return 200

    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder, posted_to(take) as url:
        ways = {
            name: in_folder(run, Path(folder), name)
            for name, run in _ways(url, options.repeats).items()
            if name in wanted
        }
        found = in_turns(ways, options.rounds)
    told = {"/v1/traces": "traces", "/somebody-came": "beside"}
    if missing := [path for path, word in told.items() if word in "".join(ways) and path not in paths]:
        raise SystemExit(f"nothing came to {', '.join(missing)}: is the extra `otel` installed?")
    return Part(
        "at_home",
        "At home with others",
        figures=tuple(_figures(pairs, found)),
        tables=(_table(found),),
    )


def _ways(url: str, repeats: int) -> dict[str, Callable[[Path], Cost]]:
    people = shortened(clip(FOUR_FACES, "h264", "480x270", 15), FRAMES_OF_CLIP * repeats)
    crowd = clip(CROWD, "mjpeg", "640x480")
    _nobodys, public = new_identity()
    # Sent five times as often as by default, for services are killed at the end of a run, with what is left.
    traces = {"FACEFERRY_OTLP_URL": url, "OTEL_BSP_SCHEDULE_DELAY": "1000"}
    others = {
        "FACEFERRY_HOME_ASSISTANT": "1",
        "FACEFERRY_NOTIFY_URL": f"{url}/somebody-came",
        "FACEFERRY_NOTIFY_PICTURE": "1",
        "FACEFERRY_NOTIFY_PER_MINUTE": "600",
    }
    return {
        "visits": partial(flat_out, people, keep="visits"),
        "visits, beside others": partial(flat_out, people, keep="visits", settings=traces | others),
        "every face": partial(flat_out, people),
        "every face, with traces": partial(flat_out, people, settings=traces),
        "every face, watched": partial(flat_out, people, watched=_watching),
        "crowd": partial(flat_out, crowd),
        "crowd, sealed": partial(flat_out, crowd, settings={"FACEFERRY_SEAL_TO": public}),
    }


def _figures(pairs: Mapping[str, tuple[str, float]], found: Mapping[str, Sequence[Cost]]) -> Iterator[Figure]:
    for way, (without, most) in pairs.items():
        rise = _cpu_ms_a_face(found[way]) / _cpu_ms_a_face(found[without])
        yield Figure(f"CPU a face: {way}, times {without}", rise, "less", most)


def _table(found: Mapping[str, Sequence[Cost]]) -> Table:
    parts = list(dict.fromkeys(part for runs in found.values() for part in runs[0].cpu_ms))
    rows: list[tuple[Cell, ...]] = [
        (
            way,
            runs[0].faces,
            *(_part_ms(runs, part) if part in runs[0].cpu_ms else None for part in parts),
            _cpu_ms_a_face(runs),
        )
        for way, runs in found.items()
    ]
    columns = ("way", "faces", *parts, "in all")
    return Table("CPU milliseconds a face", columns, tuple(rows))


def _part_ms(runs: Sequence[Cost], part: str) -> float:
    return median([run.cpu_ms[part] / run.faces for run in runs])


def _cpu_ms_a_face(runs: Sequence[Cost]) -> float:
    return median([run.cpu_ms_a_face for run in runs])


@contextmanager
def _watching(rig: Rig) -> Iterator[None]:
    """Scrape, and look at the page, for as long as the context lasts."""
    is_over, page = threading.Event(), rig.plan.gallery_url
    urls = [f"http://127.0.0.1:{port}" for port in rig.plan.http_ports.values()]
    rig.wait("the gallery", lambda: _reads(page))
    scraping = threading.Thread(target=_scrape, args=(urls, is_over))
    scraping.start()
    # It ends with the gallery.
    threading.Thread(target=_look, args=(page,), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        scraping.join()


def _scrape(urls: Sequence[str], is_over: threading.Event) -> None:
    while not is_over.is_set():
        for url in urls:
            for path in ("/metrics", "/readyz"):
                _reads(f"{url}{path}")
        is_over.wait(ASKED_EVERY_S)


def _look(page: str) -> None:
    """Load the image of every face that the page gets."""
    with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(f"{page}events") as events:  # noqa: S310
        for line in events:
            for face in json.loads(line[6:]) if line.startswith(b"data: [") else ():
                _reads(f"{page}image/{face['key']}")


def _reads(url: str) -> bool:
    """Read what has arrived; return whether there was anything."""
    with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
        return bool(answer.read())
    return False


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
