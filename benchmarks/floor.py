"""The least that the work costs: bare calls in one process, no messaging, nothing durable.

    python -m benchmarks.floor CLIP FOLDER [look]

The same program reads the clip as capture's; each picture is encoded if it is not JPEG yet, decoded at the
scale that the network needs, run through the network in ONNX Runtime, and where there is a face decoded in
full, cut, encoded and written to a file; with `look` nothing is. Prints one JSON object: frames, faces,
seconds, cpu_s.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from services.capture.cameras import parse_camera
from services.capture.encoding import encode
from services.capture.ffmpeg import find_ffmpeg
from services.capture.pictures import Jpeg as JpegPicture
from services.capture.pictures import Picture
from services.capture.sources import Site, command, make_reader
from services.common.frames import Frame
from services.common.times import EPOCH
from services.common.topics import Source
from services.detect.detectors import open_detector
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings

QUALITY = 85


def pictures(clip: Path) -> Iterator[Picture]:
    """Yield the clip's pictures as capture's program delivers them."""
    camera = parse_camera(f"front={clip.as_uri()}?paced=1")
    codec = "mjpeg" if ".mjpeg." in clip.name else "h264"
    program = command(camera, Site(ffmpeg=find_ffmpeg(), codec=codec))
    reader = make_reader(program.wire)
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while count := os.readv(process.stdout.fileno(), [reader.buffer()]):
            yield from reader.received(count)


def main() -> None:
    """Do the work and print what it took."""
    clip, folder, only_looks = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["look"]
    cv2.setNumThreads(1)
    frames = faces = 0
    settings = DetectSettings(device="floor", detector="yunet", keep="every")
    with open_detector(settings) as detector:
        pipeline = Pipeline(detector, settings)
        before, began_s = _spent_s(), time.monotonic()
        for picture in pictures(clip):
            jpeg = picture.data if isinstance(picture, JpegPicture) else encode(picture, QUALITY)
            frame = Frame(Source("floor", "front"), frames, EPOCH, jpeg)
            look = pipeline.look(frame)
            for face in pipeline.cut(frame, look, [] if only_looks else None):
                (folder / f"{frames}-{face.id}.jpg").write_bytes(face.image)
                faces += 1
            frames += 1
        seconds = time.monotonic() - began_s
    print(json.dumps({"frames": frames, "faces": faces, "seconds": seconds, "cpu_s": _spent_s() - before}))


def _spent_s() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


if __name__ == "__main__":
    main()
