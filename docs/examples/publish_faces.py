"""Publishes pictures as faces, each until it is receipted: publish_faces.py DEVICE CAMERA FACE.jpg..."""

import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes

device, camera, *files = sys.argv[1:]
source = f"{device}/{camera}"
waiting: dict[str, tuple[bytes, mqtt.Properties]] = {}
for file in map(Path, files):
    image, now = file.read_bytes(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    digest = hashlib.sha256(f"{source}\n".encode() + image).hexdigest()[:32]
    face_id = f"{now.replace('-', '').replace(':', '')}-{digest}"
    known = {"specversion": "1.0", "type": "faceferry.face.v1", "source": source, "id": face_id, "time": now}
    properties = mqtt.Properties(PacketTypes.PUBLISH)
    properties.ContentType = "image/png" if file.suffix == ".png" else "image/jpeg"
    properties.UserProperty = list(known.items())
    waiting[face_id] = image, properties


def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
    receipt = json.loads(message.payload)
    answers = dict.fromkeys(receipt["ids"], message.topic.rpartition("/")[2]) | receipt.get("refused", {})
    for face_id in answers.keys() & waiting.keys():
        print(face_id, answers[face_id])
        del waiting[face_id]


address = urlsplit(os.environ.get("MQTT_URL", "mqtt://127.0.0.1:1883"))
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_message = on_message
topics = [(f"faceferry/{device}/{kind}", 1) for kind in ("taken", "stored")]
client.on_connect = lambda client, *_: client.subscribe(topics)
client.connect(address.hostname or "", address.port or 1883)
client.loop_start()
wait_s = 2
while waiting:
    time.sleep(0.5)  # at first until the subscriptions are granted
    for image, properties in list(waiting.values()):
        properties.MessageExpiryInterval = wait_s
        client.publish(f"faceferry/{source}/face", image, qos=1, properties=properties)
    until_s = time.monotonic() + wait_s
    while waiting and time.monotonic() < until_s:
        time.sleep(0.05)
    wait_s = min(10, 2 * wait_s)
