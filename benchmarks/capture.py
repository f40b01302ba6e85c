"""What a frame costs capture, in CPU time of its own process and its child's together.

    python -m benchmarks.capture [CLIP] [--frames N]

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

from services.capture.cameras import parse_camera, to_url
from services.capture.developer import Developer
from services.capture.ffmpeg import find_ffmpeg, has_filter
from services.capture.metrics import Tally
from services.capture.pictures import Picture
from services.capture.program import Program
from services.capture.sources import Site
from services.capture.watch import Patience

QUALITY = 85
ROUNDS = 5
PASS_THROUGH_TARGET_MS = 0.5
TIMES_CHEAPER_TARGET = 20.0
H264_TARGET = 1.0


def main() -> None:
    """Measure, and print a table."""
    arguments = _arguments()
    ffmpeg = find_ffmpeg()
    with tempfile.TemporaryDirectory() as folder:
        h264, mjpeg = _make_clips(ffmpeg, arguments.clip, arguments.frames, Path(folder))
        rows = {clip: _measure(ffmpeg, clip, codec) for clip, codec in ((mjpeg, "mjpeg"), (h264, "h264"))}
    print(f"{'1920x1080':14} {'capture':>12} {'OpenCV':>12}")
    for clip, (ours, theirs) in rows.items():
        print(f"{clip.stem:14} {ours:9.2f} ms {theirs:9.2f} ms   CPU a frame")
    passed, usual = rows[mjpeg]
    ratio = rows[h264][0] / rows[h264][1]
    _judge(
        f"pass-through: {passed:.2f} ms, at most", PASS_THROUGH_TARGET_MS, passed <= PASS_THROUGH_TARGET_MS
    )
    cheaper = usual / passed
    _judge(
        f"pass-through: {cheaper:.0f} times cheaper, at least",
        TIMES_CHEAPER_TARGET,
        cheaper >= TIMES_CHEAPER_TARGET,
    )
    _judge(f"H.264: {ratio:.2f} of the usual way, at most", H264_TARGET, ratio <= H264_TARGET)


def _judge(claim: str, target: float, is_met: bool) -> None:  # noqa: FBT001 - a verdict on a claim
    print(f"{claim} {target:g}: {'met' if is_met else 'MISSED'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = Path(__file__).parents[2] / "shared" / "data" / "video" / "classroom.mp4"
    parser.add_argument("clip", nargs="?", type=Path, default=shared if shared.exists() else None)
    parser.add_argument("--frames", type=int, default=300)
    return parser.parse_args()


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


def _measure(ffmpeg: str, clip: Path, codec: str) -> tuple[float, float]:
    """Return CPU milliseconds a frame of capture's way and the usual one, each the median of the rounds."""
    site = Site(ffmpeg, codec=codec, has_zscale=has_filter(ffmpeg, "zscale"))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_cpu_ms_a_frame(lambda: asyncio.run(_capture(clip, site))))
        theirs.append(_cpu_ms_a_frame(lambda: _usual_way(clip)))
    return statistics.median(ours), statistics.median(theirs)


async def _capture(clip: Path, site: Site) -> int:
    """Take a clip through capture, up to the JPEGs that it would publish; return how many."""
    frames = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        developer = Developer("benchmark", QUALITY, threads)

        async def on_picture(picture: Picture) -> None:
            nonlocal frames
            await developer.develop(picture, 1 << 24)
            frames += 1

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
    main()
