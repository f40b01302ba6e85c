"""Clips for the benchmarks, made from real ones with ffmpeg and kept in the user's cache."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from services.capture.source.ffmpeg import find_ffmpeg
from services.detect.codec import BgrImage
from tests.support import SHARED

VIDEOS = SHARED / "data" / "video"
CROWD = (
    "classroom.mp4",
    "face-demographics-walking-and-pause.mp4",
    "head-pose-face-detection-female-and-male.mp4",
)
ONE_FACE = ("book.mkv",)
FOUR_FACES = ("classroom.mp4",)
MIXED = ("book.mkv", "empty-room.mp4", *CROWD)
"""All there is: 452 frames with 524 faces, of which 201 frames without one, as in front of most cameras."""
CODECS = {
    "mjpeg": ("avi", ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]),
    "h264": ("mp4", ["-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-pix_fmt", "yuv420p"]),
    "h264-camera": (
        "mp4",
        [
            *("-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "50", "-pix_fmt", "yuv420p"),
            *("-b:v", "6M", "-maxrate", "6M", "-bufsize", "6M"),
        ],
    ),
}
"""`mjpeg` is what a USB webcam delivers, `h264-camera` a network camera: no frame refers to a later one, a
key frame every other second or so, and 6 Mbit a second whatever there is to see."""
SENSOR = "noise=alls=8:allf=t"
"""A sensor's noise. Without it nearly nothing of a scene that is put together has to be decoded."""


def clip(names: tuple[str, ...], codec: str, size: str, fps: int = 30) -> Path:
    """Return a clip of these sources one after the other, at a size and in a codec.

    Args:
        names: of the source clips.
        codec: of `CODECS`.
        size: `WIDTHxHEIGHT`; other proportions get black borders.
        fps: the rate it is played at; no frame is added or left out.
    """
    width, height = size.split("x")
    fit = (
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:flags=bicubic,"
        f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,settb=1/{fps},setpts=N"
    )
    chains = "".join(f"[{number}:v]{fit}[v{number}];" for number in range(len(names)))
    joined = "".join(f"[v{number}]" for number in range(len(names)))
    graph = f"{chains}{joined}concat=n={len(names)}:v=1,setpts=N/({fps}*TB)"
    title = "+".join(Path(name).stem for name in names)
    return _made(f"{title}-{size}-{fps}", names, graph, codec, fps)


def six_faces(codec: str, fps: int = 30) -> Path:
    """Return a clip of six people, 1920x1080: four at their desks beside two who turn their heads."""
    halves = "".join(
        f"[{number}:v]loop=-1:size=200,scale=960:540:flags=bicubic,settb=1/{fps},setpts=N[v{number}];"
        for number in range(2)
    )
    graph = (
        f"{halves}[v0][v1]hstack=inputs=2,pad=1920:1080:0:270,setsar=1,trim=end_frame=240,setpts=N/({fps}*TB)"
    )
    return _made(f"six-{fps}", (CROWD[0], CROWD[2]), graph, codec, fps)


def detailed(codec: str, fps: int = 30) -> Path:
    """Return a clip of one face, 1920x1080, with the fine detail that enlarged clips lack.

    The person is in the middle at the size at which the camera took them, and the empty room, side by side
    with itself at its own size, is all around.
    """
    columns, rows = ("0", "w0", "w0+w0"), ("0", "h0", "h0+h0")
    layout = "|".join(f"{x}_{y}" for y in rows for x in columns)
    copies = "".join(f"[r{number}]" for number in range(9))
    graph = (
        f"[1:v]settb=1/{fps},setpts=N,split=9{copies};{copies}xstack=inputs=9:layout={layout},"
        f"crop=1920:1080:0:0[room];[0:v]settb=1/{fps},setpts=N[person];"
        f"[room][person]overlay=(W-w)/2:(H-h)/2:shortest=1,setsar=1,setpts=N/({fps}*TB)"
    )
    return _made(f"detailed-{fps}", (*ONE_FACE, "empty-room.mp4"), graph, codec, fps)


def noisy_room(size: str, fps: int) -> Path:
    """Return a clip of an empty room with a sensor's noise; a frame of 1920x1080 has 180 kB."""
    graph = f"{_still(0, size)},{SENSOR},setpts=N/({fps}*TB)"
    return _made(f"still-room-{size}-{fps}", ("empty-room.mp4",), graph, "mjpeg", fps)


def reader(fps: int = 30) -> Path:
    """Return a clip of somebody who reads in such a room, 1920x1080, at the size at which they were taken."""
    room = f"{_still(1, '1920x1080')},settb=1/{fps},setpts=N[room]"
    person = f"[0:v]settb=1/{fps},setpts=N[person]"
    both = "[room][person]overlay=(W-w)/2:(H-h)/2:shortest=1,setsar=1"
    graph = f"{room};{person};{both},{SENSOR},setpts=N/({fps}*TB)"
    return _made(f"reader-{fps}", (*ONE_FACE, "empty-room.mp4"), graph, "mjpeg", fps)


def _still(number: int, size: str) -> str:
    """Return the filters that keep of the clip of a room what is before somebody goes through it."""
    return f"[{number}:v]trim=end_frame=50,loop=5:50,scale={size.replace('x', ':')}:flags=bicubic"


def film(title: str, pictures: Callable[[], Iterable[BgrImage]], size: str, codec: str, fps: int) -> Path:
    """Return a clip of pictures as a sensor sees them; they are asked for if there is none of that title yet.

    Args:
        title: of the file.
        pictures: make them: (H, W, 3) uint8, BGR.
        size: `WIDTHxHEIGHT`, theirs.
        codec: as for `clip`.
        fps: likewise.
    """
    made = _place(title, codec)
    if made.exists():
        return made
    given = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-framerate", str(fps), "-i", "pipe:0"]
    with _unfinished(made) as path:
        words = [find_ffmpeg(), "-v", "error", "-y", *given, "-vf", SENSOR, *CODECS[codec][1], str(path)]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as ffmpeg:
            assert ffmpeg.stdin is not None
            for picture in pictures():
                ffmpeg.stdin.write(picture.tobytes())
            ffmpeg.stdin.close()
            if ffmpeg.wait():
                raise RuntimeError(f"ffmpeg has ended with status {ffmpeg.returncode}")
    return made


def shortened(video: Path, frames: int) -> Path:
    """Return the beginning of a clip, as it is; of one that has fewer frames, over and over."""
    made = video.with_name(f"{video.stem}-first-{frames}{video.suffix}")
    if not made.exists():
        with _unfinished(made) as path:
            words = [
                "-stream_loop",
                "-1",
                "-i",
                str(video),
                "-c",
                "copy",
                "-frames:v",
                str(frames),
                str(path),
            ]
            subprocess.run([find_ffmpeg(), "-v", "error", "-y", *words], check=True)
    return made


def _made(title: str, names: tuple[str, ...], graph: str, codec: str, fps: int) -> Path:
    """Return what a filter graph makes of source clips; kept for the next time."""
    made = _place(title, codec)
    if made.exists():
        return made
    inputs = [part for name in names for part in ("-i", str(VIDEOS / name))]
    options = ["-filter_complex", graph, "-r", str(fps), *CODECS[codec][1]]
    with _unfinished(made) as path:
        subprocess.run([find_ffmpeg(), "-v", "error", "-y", *inputs, *options, path], check=True)
    return made


def _place(title: str, codec: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceferry-benchmarks"
    return cache / f"{title}.{codec}.{CODECS[codec][0]}"


@contextlib.contextmanager
def _unfinished(made: Path) -> Iterator[Path]:
    """Give a place to write to, which becomes the file itself when all is written."""
    made.parent.mkdir(parents=True, exist_ok=True)
    unfinished = made.with_name(f"{os.getpid()}-{made.name}")
    yield unfinished
    unfinished.replace(made)
