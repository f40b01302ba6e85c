"""What a frame costs capture, in CPU time of its own process and its child's together.

    python -m benchmarks.capture [CLIP] [--frames 300] [--rounds 5]

Pass-through and H.264, both 1920x1080, beside the usual way (`cv2.VideoCapture` and `cv2.imencode`) on the
same files in the same run, alternately; every figure is the median of the rounds. Compare ratios.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from benchmarks.clips import FOUR_FACES, VIDEOS
from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from services.capture.cameras import parse_camera, to_url
from services.capture.developer import Developer
from services.capture.ffmpeg import find_ffmpeg, has_filter
from services.capture.metrics import Tally
from services.capture.pictures import Picture
from services.capture.program import Program
from services.capture.sources import Site
from services.capture.watch import Patience

QUALITY = 85
ABOUT = """\
CPU time of capture's own process and of its ffmpeg together, from the file to the JPEGs that it would
publish; what ffmpeg takes to start is spread over the frames. Beside it the usual way on the same files:
`cv2.VideoCapture` and `cv2.imencode` at quality {quality}, which is capture's quality too. {frames}
frames of 1920x1080, made of {source} and given a sensor's noise: as MJPEG, which capture passes through,
and as H.264 of 6 Mbit/s, which it decodes and encodes. The two take turns, and the median of {rounds}
rounds counts. How soon frames flow again after an RTSP server was restarted, frozen or changed is not
measured but tested (tests/system/test_capture_rtsp.py): 3.6 s at the most in 50 rounds of four
disturbances."""
PASSED_LIMITS = """\
Nothing is decoded: the time goes into ffmpeg's start and into taking the JPEGs out of the pipe, so a
short clip or a slow machine can miss this by itself."""
CHEAPER_LIMITS = "The fewer the frames, the more ffmpeg's start weighs in what a passed one costs."
H264_LIMITS = """\
Both ways decode with FFmpeg and encode with libjpeg-turbo. What capture saves by encoding from the YUV
planes, the pipe between its two processes takes again, about a millisecond a frame, so the machine's load
decides."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen here."""
    shared = VIDEOS / FOUR_FACES[0]
    parser.add_argument(
        "clip",
        nargs="?",
        type=Path,
        default=shared if shared.exists() else None,
        help="what the frames are made of; a test picture where there is none",
    )
    parser.add_argument("--frames", type=int, default=300, help="how many a round takes")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many counts")


def measure(options: argparse.Namespace) -> Part:
    """Measure both sources, both ways."""
    ffmpeg = find_ffmpeg()
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        h264, mjpeg = _make_clips(ffmpeg, options.clip, options.frames, Path(folder))
        passed = _compare(ffmpeg, mjpeg, "mjpeg", options.rounds)
        decoded = _compare(ffmpeg, h264, "h264", options.rounds)
    about = ABOUT.format(
        quality=QUALITY,
        frames=options.frames,
        source=f"`{options.clip.name}`" if options.clip else "ffmpeg's test picture",
        rounds=options.rounds,
    )
    return Part(
        "capture",
        "Capture: CPU a 1920x1080 frame",
        about,
        figures=_figures(passed, decoded),
        tables=(_table(passed, decoded),),
    )


def _figures(passed: tuple[float, float], decoded: tuple[float, float]) -> tuple[Figure, ...]:
    """Return the figures of CPU milliseconds a frame: capture's, and the usual way's."""
    cheaper = passed[1] / passed[0]
    share = decoded[0] / decoded[1]
    return (
        Figure("CPU a frame, MJPEG passed through", passed[0], "less", 0.5, "ms", PASSED_LIMITS),
        Figure("times cheaper than OpenCV, MJPEG passed through", cheaper, "more", 20.0, "", CHEAPER_LIMITS),
        Figure("CPU against OpenCV's, H.264", share, "less", 1.0, "", H264_LIMITS),
    )


def _table(passed: tuple[float, float], decoded: tuple[float, float]) -> Table:
    rows = (("MJPEG, passed through", *passed), ("H.264", *decoded))
    return Table("CPU milliseconds a frame", ("source", "capture", "OpenCV"), rows)


def _make_clips(ffmpeg: str, clip: Path | None, frames: int, folder: Path) -> tuple[Path, Path]:
    """Return the clip at 1920x1080 as H.264 and as MJPEG, with a sensor's noise, 30 frames a second."""
    source = (
        ["-stream_loop", "-1", "-i", str(clip)] if clip else ["-f", "lavfi", "-i", "testsrc2=size=1280x720"]
    )
    h264, mjpeg = folder / "H.264.mp4", folder / "pass-through.avi"
    # Scaled up, a small clip is smoother than any camera's picture: sharpened, and with noise, a frame comes
    # to the size that a street scene has.
    filters = "scale=1920:1080:flags=lanczos,unsharp=5:5:1.5,noise=alls=8:allf=t,format=yuv420p"
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-g", "30"]
    run = [ffmpeg, "-nostdin", "-v", "error"]
    subprocess.run(
        [*run, *source, "-an", "-frames:v", str(frames), "-vf", filters, "-r", "30", *encode, str(h264)],
        check=True,
    )
    subprocess.run(
        [*run, "-i", str(h264), "-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p", str(mjpeg)], check=True
    )
    return h264, mjpeg


def _compare(ffmpeg: str, clip: Path, codec: str, rounds: int) -> tuple[float, float]:
    """Return CPU milliseconds a frame of capture's way and the usual one, each the median of the rounds."""
    site = Site(ffmpeg, codec=codec, has_zscale=has_filter(ffmpeg, "zscale"))
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_cpu_ms_a_frame(lambda: asyncio.run(_capture(clip, site))))
        theirs.append(_cpu_ms_a_frame(lambda: _usual_way(clip)))
    return statistics.median(ours), statistics.median(theirs)


async def _capture(clip: Path, site: Site) -> int:
    """Take a clip through capture, up to the JPEGs that it would publish; return how many."""
    frames = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        developer = Developer("benchmark", QUALITY, threads)

        async def on_picture(picture: Picture) -> float:
            nonlocal frames
            await developer.develop(picture, 1 << 24)
            frames += 1
            return 0.0

        camera = parse_camera(f"benchmark={to_url(str(clip))}?paced=1")
        ending = await Program(camera, site, Patience(30, 30), Tally("benchmark")).run(on_picture)
        assert ending.status == 0, ending
    return frames


def _usual_way(clip: Path) -> int:
    frames = 0
    video = cv2.VideoCapture(str(clip))
    while (read := video.read())[0]:
        cv2.imencode(".jpg", read[1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        frames += 1
    video.release()
    return frames


def _cpu_ms_a_frame(work: Callable[[], int]) -> float:
    before_s = _cpu_s()
    frames = work()
    return (_cpu_s() - before_s) / frames * 1000


def _cpu_s() -> float:
    """Return the CPU time of this process and of its children that have ended, in seconds."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
