"""What living with others costs: processor time a face, with everything for them on and with everything off.

    python -m benchmarks.at_home [--clip shared/data/video/classroom.mp4] [--runs 5] [--repeats 20]

Off: the four services and both brokers, a recording, a folder. On: besides these Home Assistant's entities, a
webhook for each visit with its picture, and traces as they are by default, of one frame in ten (they want the
extra `otel`). Once with visits, and once with each face of each frame, where a face costs least and what is
added to it shows most; there are no visits then that could be told of, and traces alone are on. Start-up is
left out, for services last; whoever gets messages and traces is left out, for they are elsewhere.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.observability import Run, add_options, lengthened, run_once, table
from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part
from tests.support import SHARED

MOST_TIMES_OFF = 1.05
KEEPS = ("visits", "every")
ABOUT = """
{clip}, {repeats} times over, through the four services and both brokers into a folder; {runs} times with
nobody else and {runs} times, in turns, with Home Assistant's entities, a webhook for each visit with its
picture, and traces of one frame in ten. With visits these are {visits} faces; with each face of each frame
there are {every}, and traces alone are on. The figures are processor milliseconds a face, all processes
together; medians. Start-up is left out, and so is whoever gets the messages and the traces.
"""

Runs = tuple[list[Run], list[Run]]


@contextmanager
def somebody() -> Iterator[tuple[str, list[str]]]:
    """Take whatever is posted; yields where, and the paths of what came."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of those who go without a word: services are killed at the end of a run."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def everything(url: str, keep: str) -> Mapping[str, str]:
    """Return what has to be set so that everything is on that there is."""
    # Sent five times as often as by default, for services are killed at the end of a run, with what is left.
    traces = {"FACEFERRY_OTLP_URL": url, "OTEL_BSP_SCHEDULE_DELAY": "1000"}
    if keep != "visits":
        return traces
    return traces | {
        "FACEFERRY_HOME_ASSISTANT": "1",
        "FACEFERRY_NOTIFY_URL": f"{url}/somebody-came",
        "FACEFERRY_NOTIFY_PICTURE": "1",
        "FACEFERRY_NOTIFY_PER_MINUTE": "600",
    }


def play_in_turns(clip: Path, repeats: int, runs: int, keep: str) -> Runs:
    """Return the runs with everything off, and with everything on."""
    off: list[Run] = []
    on: list[Run] = []
    kept = {"FACEFERRY_KEEP": keep}
    with tempfile.TemporaryDirectory() as name, somebody() as (url, paths):
        long = lengthened(clip.resolve(), repeats, Path(name))
        for _ in range(runs):
            off.append(asyncio.run(run_once(long, is_watched=False, more=kept)))
            paths.clear()
            on.append(asyncio.run(run_once(long, is_watched=False, more={**kept, **everything(url, keep)})))
            check(paths, keep)
    return off, on


def check(paths: Sequence[str], keep: str) -> None:
    """Raise if something that is measured was not there."""
    wanted = {"/v1/traces", *(["/somebody-came"] if keep == "visits" else ())}
    if missing := wanted - set(paths):
        raise SystemExit(f"nothing came to {', '.join(missing)}: is the extra `otel` installed?")


def rise(runs: Runs, keep: str) -> Figure:
    """Return by how much the cost rises."""
    off, on = (statistics.median(run.ms_a_face for run in each) for each in runs)
    what = "with visits" if keep == "visits" else "each face of each frame"
    title = f"CPU a face with everything on, times that with everything off, {what}"
    return Figure(title, on / off, "less", MOST_TIMES_OFF)


def measure(options: argparse.Namespace) -> Part:
    """Play the clip with everything off and on, in both ways."""
    os.environ.setdefault("FACEFERRY_MODEL_DIR", str(SHARED / "models"))
    all_runs = {keep: play_in_turns(options.clip, options.repeats, options.runs, keep) for keep in KEEPS}
    faces = {keep: off[0].faces for keep, (off, _) in all_runs.items()}
    return Part(
        "at_home",
        "At home with others: Home Assistant, a webhook and traces",
        ABOUT.format(clip=options.clip.name, repeats=options.repeats, runs=options.runs, **faces),
        tuple(rise(runs, keep) for keep, runs in all_runs.items()),
        tuple(table(*runs) for runs in all_runs.values()),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
