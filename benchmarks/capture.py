"""CPU time of a frame in capture's own process and its child's together.

    python -m benchmarks.capture [--frames 300] [--rounds 5]

MJPEG, which capture passes through, and H.264, both 1920x1080, beside the usual way (`cv2.VideoCapture` and
`cv2.imencode` at capture's quality) on the same files in the same run, in turns.
"""

import argparse
import asyncio
import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from benchmarks.report.alone import alone, in_turns
from services.capture.cameras import parse_camera, to_url
from services.capture.encoder import JpegEncoder
from services.capture.live import to_jpeg
from services.capture.metrics import Tally
from services.capture.source.facts import SourceFacts
from services.capture.source.ffmpeg import find_ffmpeg, has_filter
from services.capture.source.pipe import Timeouts
from services.capture.source.program import CameraProgram
from services.capture.stream.picture import Picture
from tests.rigs.clips import detailed, shortened
from tests.rigs.pipeline import median
from tests.rigs.report.findings import Figure, Part, Table

QUALITY = 85
LEAST_CHEAPER, MOST_OF_OPENCV = 20.0, 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--frames", type=int, default=300, help="how many a round takes")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many counts")


def measure(options: argparse.Namespace) -> Part:
    """Measure both sources, with capture and with OpenCV."""
    ffmpeg = find_ffmpeg()
    ways: dict[str, Callable[[int], float]] = {}
    for codec in ("mjpeg", "h264"):
        video = shortened(detailed(codec), options.frames)
        facts = SourceFacts(ffmpeg, codec=codec, has_zscale=has_filter(ffmpeg, "zscale"))
        ways[f"{codec}, capture"] = partial(_cpu_ms_a_frame, partial(_capture, video, facts))
        ways[f"{codec}, OpenCV"] = partial(_cpu_ms_a_frame, partial(_usual_way, video))
    found = {way: median(costs) for way, costs in in_turns(ways, options.rounds).items()}
    cheaper = found["mjpeg, OpenCV"] / found["mjpeg, capture"]
    share = found["h264, capture"] / found["h264, OpenCV"]
    return Part(
        "capture",
        "Capture: CPU a 1920x1080 frame",
        figures=(
            Figure("times cheaper than OpenCV, MJPEG passed through", cheaper, "more", LEAST_CHEAPER),
            Figure("CPU against OpenCV's, H.264", share, "less", MOST_OF_OPENCV),
        ),
        tables=(Table("CPU milliseconds a frame", ("way", "ms"), tuple(found.items())),),
    )


def _capture(video: Path, facts: SourceFacts) -> int:
    """Take a clip through capture, up to the JPEGs that it would publish; return how many."""
    return asyncio.run(_captured(video, facts))


async def _captured(video: Path, facts: SourceFacts) -> int:
    frames = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        encoder = JpegEncoder("benchmark", QUALITY, threads)

        async def on_picture(picture: Picture) -> float:
            nonlocal frames
            await to_jpeg(picture, encoder, 1 << 24)
            frames += 1
            return 0.0

        camera = parse_camera(f"benchmark={to_url(str(video))}?paced=1")
        ending = await CameraProgram(camera, facts, Timeouts(30, 30), Tally("benchmark")).run(on_picture)
        assert ending.status == 0, ending
    return frames


def _usual_way(path: Path) -> int:
    frames = 0
    video = cv2.VideoCapture(str(path))
    while (read := video.read())[0]:
        cv2.imencode(".jpg", read[1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        frames += 1
    video.release()
    return frames


def _cpu_ms_a_frame(work: Callable[[], int], _round: int) -> float:
    before_s = _cpu_s()
    frames = work()
    return (_cpu_s() - before_s) / frames * 1000


def _cpu_s() -> float:
    """Return the CPU time of this process and of its children that have ended, in seconds."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
