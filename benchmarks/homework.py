"""The original homework's way, written anew: one loop with OpenCV, Haar on the full frame, PNG over MQTT.

    python -m benchmarks.homework CLIP BROKER_PORT FOLDER

Reads the clip to its end, publishes each face as a PNG, writes those that come back from the broker into the
folder, and prints one JSON object: frames, faces, seconds, cpu_s (of this process, both its halves).
"""

import json
import resource
import sys
import threading
import time
from pathlib import Path

import cv2
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

TOPIC = "test_topic"
CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"


def receive(port: int, folder: Path, is_subscribed: threading.Event) -> mqtt.Client:
    """Write what comes on the topic into files."""
    written = 0

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe(TOPIC)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        nonlocal written
        (folder / f"face_{written}.png").write_bytes(message.payload)
        written += 1

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: is_subscribed.set()
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def detect(clip: str, port: int) -> tuple[int, int]:
    """Find faces in every frame and publish them; return the number of frames and of faces."""
    cascade = cv2.CascadeClassifier(str(CASCADE))
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    capture = cv2.VideoCapture(clip)
    frames = faces = 0
    while True:
        is_there, frame = capture.read()
        if not is_there:
            break
        frames += 1
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for x, y, width, height in cascade.detectMultiScale(grey, 1.3, 5):
            png = cv2.imencode(".png", grey[y : y + height, x : x + width])[1].tobytes()
            client.publish(TOPIC, png).wait_for_publish()
            faces += 1
    client.loop_stop()
    return frames, faces


def main() -> None:
    """Run both halves and print what they took."""
    clip, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    is_subscribed = threading.Event()
    receiver = receive(port, folder, is_subscribed)
    is_subscribed.wait(10)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began_s = time.monotonic()
    frames, faces = detect(clip, port)
    deadline_s = time.monotonic() + 10
    while len(list(folder.iterdir())) < faces and time.monotonic() < deadline_s:
        time.sleep(0.01)
    after = resource.getrusage(resource.RUSAGE_SELF)
    receiver.loop_stop()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps({"frames": frames, "faces": faces, "seconds": time.monotonic() - began_s, "cpu_s": cpu_s})
    )


if __name__ == "__main__":
    main()
