"""What Faceferry is compared with, each in a process of its own; prints frames, faces, seconds, cpu_s.

    python -m benchmarks.others homework CLIP BROKER_PORT FOLDER
    python -m benchmarks.others plain CLIP MODEL FOLDER
    python -m benchmarks.others floor CLIP FOLDER [look]

*Homework* is the original homework's way, written anew: one loop with OpenCV, Haar on the full frame, each
face as a PNG over MQTT, and those that come back written to a folder. *Plain* is the simplest program: a loop
with `cv2.FaceDetectorYN` on the full frame that saves each face; the model is YuNet with fixed sides, which
OpenCV 4 can load. *Floor* is Faceferry's work as bare calls, no messages and nothing durable: each picture is
read by capture's program, encoded if it is not a JPEG, decoded at the scale that the network needs, run
through it, and where there is a face decoded in full, cropped, encoded and written; with `look` only the
network runs.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from services.capture.cameras import parse_camera
from services.capture.source.commands import command
from services.capture.source.facts import SourceFacts, make_reader
from services.capture.source.ffmpeg import find_ffmpeg
from services.capture.stream.picture import JpegPicture, Picture
from services.capture.turbojpeg import encode
from services.common.wire.frames import Frame
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source
from services.detect.detectors import open_detector
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings

TOPIC = "test_topic"
QUALITY, THRESHOLD = 85, 0.7
Found = dict[str, float]


def homework(clip: str, broker_port: str, folder: str) -> Found:
    """Find, publish and write; wait at most ten seconds for the last to come back."""
    written, is_subscribed = 0, threading.Event()

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        nonlocal written
        (Path(folder) / f"face_{written}.png").write_bytes(message.payload)
        written += 1

    receiver = mqtt.Client(CallbackAPIVersion.VERSION2)
    receiver.on_connect = lambda client, *_: client.subscribe(TOPIC)
    receiver.on_subscribe = lambda *_: is_subscribed.set()
    receiver.on_message = on_message
    sender = mqtt.Client(CallbackAPIVersion.VERSION2)
    for client in (receiver, sender):
        client.connect("127.0.0.1", int(broker_port))
        client.loop_start()
    is_subscribed.wait(10)
    began, frames, faces = _now(), 0, 0
    name = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(name))
    for frame in _frames(clip):
        frames += 1
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for x, y, width, height in cascade.detectMultiScale(grey, 1.3, 5):
            png = cv2.imencode(".png", frame[y : y + height, x : x + width])[1].tobytes()
            sender.publish(TOPIC, png).wait_for_publish()
            faces += 1
    deadline_s = time.monotonic() + 10
    while written < faces and time.monotonic() < deadline_s:
        time.sleep(0.01)
    found = _found(began, frames, faces)
    sender.loop_stop()
    receiver.loop_stop()
    return found


def plain(clip: str, model: str, folder: str) -> Found:
    """Save each face of each frame as a JPEG."""
    began, frames, faces = _now(), 0, 0
    detector: cv2.FaceDetectorYN | None = None
    for frame in _frames(clip):
        frames += 1
        height, width = frame.shape[:2]
        detector = detector or cv2.FaceDetectorYN.create(model, "", (width, height), THRESHOLD)
        found = detector.detect(frame)[1]
        for left, top, wide, high in () if found is None else found[:, :4].clip(0).astype(int):
            faces += 1
            cv2.imwrite(f"{folder}/{faces}.jpg", frame[top : top + high, left : left + wide])
    return _found(began, frames, faces)


def floor(clip: str, folder: str, only: str = "") -> Found:
    """Do Faceferry's work by bare calls."""
    settings = DetectSettings(device="floor", detector="yunet", keep="every")
    with open_detector(settings) as detector:
        pipeline = Pipeline(detector, settings)
        began, frames, faces = _now(), 0, 0
        for picture in _pictures(Path(clip)):
            jpeg = picture.data if isinstance(picture, JpegPicture) else encode(picture, QUALITY)
            frame = Frame(Source("floor", "front"), frames, EPOCH, jpeg)
            look = pipeline.look(frame)
            for face in pipeline.cut(frame, look, [] if only == "look" else None):
                (Path(folder) / f"{frames}-{face.id}.jpg").write_bytes(face.image)
                faces += 1
            frames += 1
    return _found(began, frames, faces)


WAYS: dict[str, Callable[..., Found]] = {"homework": homework, "plain": plain, "floor": floor}


def _frames(clip: str) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(clip)
    while (read := video.read())[0]:
        yield read[1]


def _pictures(clip: Path) -> Iterator[Picture]:
    """Yield the clip's pictures as capture's program delivers them."""
    camera = parse_camera(f"front={clip.as_uri()}?paced=1")
    codec = "mjpeg" if ".mjpeg." in clip.name else "h264"
    program = command(camera, SourceFacts(ffmpeg=find_ffmpeg(), codec=codec))
    reader = make_reader(program.output_format)
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while count := os.readv(process.stdout.fileno(), [reader.buffer()]):
            yield from reader.received(count)


def main() -> None:
    """Run one of them and print what it took."""
    way, *arguments = sys.argv[1:]
    if way != "homework":
        cv2.setNumThreads(1)  # the homework leaves it as it comes
    print(json.dumps(WAYS[way](*arguments)))


def _now() -> tuple[float, float]:
    """Return seconds of the clock, and of the processor, including ended children."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.monotonic(), sum(each.ru_utime + each.ru_stime for each in spent)


def _found(began: tuple[float, float], frames: int, faces: int) -> Found:
    seconds, cpu_s = (now - then for now, then in zip(_now(), began, strict=True))
    return {"frames": frames, "faces": faces, "seconds": seconds, "cpu_s": cpu_s}


if __name__ == "__main__":
    main()
