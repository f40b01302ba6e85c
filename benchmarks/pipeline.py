"""The whole pipeline compared with the homework's way and with the same work as bare calls (the floor).

    python -m benchmarks.pipeline [--rounds 3] [--live-s 20] [--quick]

Flat out: every frame of real clips, paced, into a folder and into a real S3 server. Live: 30 frames a second.
Processor time counts every process: the services, ffmpeg, both brokers; the S3 server is listed separately.
The variants take turns, and medians count.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.report.alone import alone, in_turns
from benchmarks.ways import Cost, Live, flat_out, floor, homework, in_folder, live
from tests.rigs.clips import CROWD, FOUR_FACES, MIXED, ONE_FACE, clip, shortened, six_faces
from tests.rigs.pipeline import PARTS, median
from tests.rigs.report.findings import Cell, Figure, Part, Table
from tests.rigs.servers import s3_server
from tests.support import S3Server

MORE_FACES, OVER_FLOOR, OVER_LOOKING, TIMES_LESS_SIX_FACES = 1.5, 1.5, 1.35, 25.0
CODECS = {"MJPEG": "mjpeg", "H.264": "h264"}
LARGE, QUICK_FRAMES = "1920x1080", 60
CROWDED, SIX = f"crowd {LARGE} MJPEG", f"six faces {LARGE} MJPEG"
Costs = Mapping[str, Sequence[Cost]]
"""By `scene, way`."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--live-s", type=float, default=20.0, help="how long a live camera is looked at")
    parser.add_argument("--quick", action="store_true", help="the beginning of one clip, and one camera")


def measure(options: argparse.Namespace) -> Part:
    """Run everything."""
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made, s3_server(Path(made)) as s3:
        ways = dict(_ways(s3, Path(made), is_quick=options.quick))
        costs = in_turns(ways, options.rounds)
        lives = dict(_lives(Path(made), options.live_s, is_quick=options.quick))
    return Part(
        "pipeline",
        "CPU a frame: the homework's way, Faceferry, and bare calls",
        figures=(*_figures(costs), *_live_figures(lives)),
        tables=(_table(costs), _parts_table(costs), _live_table(lives), _live_parts_table(lives)),
        bars=tuple(_bars(costs)),
    )


def _ways(s3: S3Server, folder: Path, *, is_quick: bool) -> Iterator[tuple[str, Callable[[int], Cost]]]:
    for label, codec in [*CODECS.items()][: 1 if is_quick else 2]:
        stores = {"folder": None, "S3": s3}
        video = clip(MIXED, codec, LARGE)
        video = shortened(video, QUICK_FRAMES) if is_quick else video
        yield from _over(f"mixed {LARGE} {label}", video, folder, stores)
    if not is_quick:
        yield from _over(CROWDED, clip(CROWD, "mjpeg", LARGE), folder, {"folder": None}, has_visits=True)
        yield from _over(SIX, six_faces("mjpeg"), folder, {"folder": None}, has_visits=True)


def _over(
    scene: str,
    video: Path,
    folder: Path,
    stores: Mapping[str, S3Server | None],
    *,
    has_visits: bool = False,
) -> Iterator[tuple[str, Callable[[int], Cost]]]:
    """Yield the variants for a clip: Faceferry into each store, the homework's way, bare calls."""
    ways: dict[str, Callable[[Path], Cost]] = {
        name: partial(flat_out, video, s3=s3) for name, s3 in stores.items()
    }
    ways |= {"floor": partial(floor, video), "homework": partial(homework, video)}
    if has_visits:
        ways |= {
            "visits": partial(flat_out, video, keep="visits"),
            "looking": partial(floor, video, only="look"),
        }
    for way, run in ways.items():
        yield f"{scene}, {way}", in_folder(run, folder, f"{scene}, {way}")


def _lives(folder: Path, seconds: float, *, is_quick: bool) -> Iterator[tuple[str, Live]]:
    one, four = clip(ONE_FACE, "mjpeg", LARGE), clip(FOUR_FACES, "mjpeg", LARGE)
    yield "one face, MJPEG", live(one, folder / "live-one", seconds)
    if not is_quick:
        yield "one face, H.264", live(clip(ONE_FACE, "h264", LARGE), folder / "live-h264", seconds)
        yield "four faces, MJPEG", live(four, folder / "live-four", seconds)
        mixed = clip(MIXED, "mjpeg", LARGE)
        yield "people come and go, visits", live(mixed, folder / "live-mixed", 2 * seconds, "visits")


def _figures(costs: Costs) -> Iterator[Figure]:
    for scene in dict.fromkeys(name.partition(",")[0] for name in costs):
        ours, bare, theirs = (_cpu_ms(costs, scene, way) for way in ("folder", "floor", "homework"))
        bound = OVER_FLOOR if scene.startswith("mixed") else None
        yield Figure(f"times the floor's CPU, {scene}", ours / bare, "less", bound)
        yield Figure(f"times less CPU than the homework's way, {scene}", theirs / ours, "more")
        if f"{scene}, visits" in costs:
            visits, looking = _cpu_ms(costs, scene, "visits"), _cpu_ms(costs, scene, "looking")
            yield Figure(
                f"visits: times the CPU of looking alone, {scene}", visits / looking, "less", OVER_LOOKING
            )
            bound = TIMES_LESS_SIX_FACES if scene == SIX else None
            name = f"visits: times less CPU than the homework's way, {scene}"
            yield Figure(name, theirs / visits, "more", bound)
    ours_found, theirs_found = (
        costs[f"mixed {LARGE} MJPEG, {way}"][0].faces for way in ("folder", "homework")
    )
    yield Figure(
        f"times the homework's faces, {LARGE}", ours_found / max(1, theirs_found), "more", MORE_FACES
    )


def _live_figures(lives: Mapping[str, Live]) -> Iterator[Figure]:
    yield Figure("live, one face: frames dropped", lives["one face, MJPEG"].dropped, "less", 0)


def _table(costs: Costs) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            median([run.frames / run.seconds for run in runs]),
            median([run.cpu_ms_a_frame for run in runs]),
            median([run.cpu_ms["s3"] / run.frames for run in runs]) if "s3" in runs[0].cpu_ms else None,
            runs[0].faces,
            runs[0].stored_bytes / 1e6 or None,
        )
        for name, runs in sorted(costs.items())
    ]
    columns = ("clip and way", "frames/s", "CPU ms a frame", "S3 server besides", "faces", "MB stored")
    return Table("Flat out", columns, tuple(rows))


def _parts_table(costs: Costs) -> Table:
    ours = {name: runs for name, runs in sorted(costs.items()) if "detect" in runs[0].cpu_ms}
    rows: list[tuple[Cell, ...]] = [
        (name, *(_part_ms(runs, part) for part in PARTS)) for name, runs in ours.items()
    ]
    return Table("Flat out, CPU ms a frame by process", ("clip and way", *PARTS), tuple(rows))


def _live_table(lives: Mapping[str, Live]) -> Table:
    columns = ("live", "faces/s", "dropped", "p50 ms", "p90 ms", "p99 ms", "a question, ms")
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            len(seen.latencies_s) / seen.frames * 30,
            seen.dropped,
            *(seen.latency_ms(share) for share in (0.5, 0.9, 0.99)),
            seen.question_ms,
        )
        for name, seen in lives.items()
    ]
    return Table(f"Live, {LARGE}, 30 frames a second, into a folder", columns, tuple(rows))


def _live_parts_table(lives: Mapping[str, Live]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, seen in lives.items():
        rows.append((f"{name}: resident MB", *(seen.resident_mb[part] for part in PARTS)))
        rows.append((f"{name}: CPU ms a frame", *(seen.cpu_ms[part] / seen.frames for part in PARTS)))
    return Table(f"Live, {LARGE}, by process", ("", *PARTS), tuple(rows))


def _bars(costs: Costs) -> Iterator[tuple[str, dict[str, float]]]:
    for name, runs in costs.items():
        scene, _, way = name.removeprefix("mixed ").partition(", ")
        if name.startswith("mixed") and way == "folder":
            parts = {f"{part} broker" if part in ("local", "cloud") else part: part for part in PARTS}
            yield f"{scene}, Faceferry", {label: _part_ms(runs, part) for label, part in parts.items()}
        elif name.startswith("mixed") and way != "S3":
            yield f"{scene}, {way}", {"one process": median([run.cpu_ms_a_frame for run in runs])}


def _cpu_ms(costs: Costs, scene: str, way: str) -> float:
    return median([run.cpu_ms_a_frame for run in costs[f"{scene}, {way}"]])


def _part_ms(runs: Sequence[Cost], part: str) -> float:
    return median([run.cpu_ms[part] / run.frames for run in runs])


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
