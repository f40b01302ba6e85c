"""forward as a process of its own, between two real brokers, with a driver in detect's and store's place."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paho.mqtt import publish
from paho.mqtt.client import MQTTv311

from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.faces import Face, decode_face, encode_face, mint
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt, encode_stored
from services.common.wire.times import from_unix_s
from services.common.wire.topics import Source
from tests.custody.faces import with_comment
from tests.custody.proxy import Proxy, Shape
from tests.support import MosquittoServer, ServiceProcess, eventually

OUTAGE_FACES = int(os.environ.get("FACEFERRY_TEST_OUTAGE_FACES", "10000"))
OUTAGE_TIMEOUT_S = 120 + OUTAGE_FACES / 100
DEVICE = "dev"
CAMERA = Source(DEVICE, "cam")


@pytest.fixture
def forward(tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer) -> Iterator[ServiceProcess]:
    process = ServiceProcess("forward", tmp_path, settings(tmp_path, local, cloud)).start()
    yield process
    process.kill()


def settings(folder: Path, local: MosquittoServer, cloud: MosquittoServer) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
        "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
        "FACEFERRY_RESEND_FIRST_S": "1",
    }


def face(number: int, size_bytes: int = 20_000) -> Face:
    image = with_comment(number.to_bytes(8) + bytes(size_bytes))
    return mint(CAMERA, from_unix_s(1_750_000_000 + number / 1000), image, "image/jpeg", {"box": "1,2,3,4"})


async def test_once_a_minute_it_says_what_waits_and_why(
    forward: ServiceProcess, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
    cloud.kill()
    async with Link("local", Broker(local.url), identity="driver") as link:
        await link.wait_up()
        link.publish(encode_face(face(1)))
        await eventually(lambda: "forward.summary" in forward.log, 20)
    [line] = [line for line in forward.log.splitlines() if "forward.summary" in line]
    for part in (
        '"taken": 1',
        '"waiting": 1',
        '"oldest_s"',
        f'"why": "no connection to 127.0.0.1:{cloud.port}',
    ):
        assert part in line


class Detect:
    """Publishes faces as detect does, and notes which are receipted."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.taken: set[str] = set()
        self.refused: dict[str, str] = {}
        self.unnamed: set[tuple[str, str]] = set()
        self.most_bytes: int | None = None
        self.on_taken: Callable[[frozenset[str]], None] | None = None

    async def publish(self, faces: list[Face], timeout_s: float = 60.0) -> None:
        """Hold faces until each is receipted, publishing again what is not."""
        wanted = {each.id: each for each in faces}
        deadline = asyncio.get_running_loop().time() + timeout_s
        while missing := [each for face_id, each in wanted.items() if face_id not in self.taken]:
            assert asyncio.get_running_loop().time() < deadline, f"{len(missing)} faces were not taken"
            for each in missing[:500]:
                try:
                    self.link.publish(encode_face(each, expiry_s=2))
                except LinkDown:
                    await asyncio.sleep(0.1)
                    break
            started = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < started + 2.0:
                if all(each.id in self.taken for each in missing[:500]):
                    break
                await asyncio.sleep(0.005)

    def send(self, one: Face) -> None:
        """Publish a face once."""
        self.link.publish(encode_face(one))

    async def run(self) -> None:
        async for delivery in self.link:
            receipt = decode_receipt(delivery.message)
            self.refused |= receipt.refused
            told = json.loads(delivery.message.payload).get("unnamed", ())
            self.unnamed |= {(each["id"], each["reason"]) for each in told}
            self.most_bytes = receipt.most_bytes
            ids = receipt.ids
            self.taken |= ids
            if self.on_taken is not None:
                self.on_taken(ids)
            delivery.acknowledge()


class Store:
    """Takes faces and receipts them, as store does; refuses those it is told to."""

    def __init__(self, link: Link, device: str) -> None:
        self.link = link
        self.device = device
        self.arrived: dict[str, Face] = {}
        self.order: list[str] = []
        self.statuses: dict[str, bytes] = {}
        self.refuses: dict[str, str] = {}
        self.is_silent = False

    async def run(self) -> None:
        async for delivery in self.link:
            delivery.acknowledge()
            if delivery.message.topic.endswith("/status"):
                self.statuses[delivery.message.topic] = delivery.message.payload
                continue
            arrived = decode_face(delivery.message)
            self.order.append(arrived.id)
            if self.is_silent:
                continue
            self.arrived[arrived.id] = arrived
            refused = {arrived.id: self.refuses[arrived.id]} if arrived.id in self.refuses else {}
            with contextlib.suppress(LinkDown):  # its broker was killed just now, and forward sends it again
                self.link.publish(encode_stored(self.device, [] if refused else [arrived.id], refused))


@asynccontextmanager
async def neighbours(
    local: MosquittoServer, cloud: MosquittoServer, device: str = DEVICE
) -> AsyncIterator[tuple[Detect, Store]]:
    async with AsyncExitStack() as stack:
        detect = Detect(
            await stack.enter_async_context(
                Link("local", Broker(local.url), identity="t", subscriptions=[f"faceferry/{device}/taken"])
            )
        )
        store = Store(
            await stack.enter_async_context(
                Link(
                    "cloud",
                    Broker(cloud.url),
                    identity="t",
                    subscriptions=["faceferry/+/+/face", "faceferry/+/+/status"],
                    receive_maximum=500,
                )
            ),
            device,
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(detect.run()), tasks.create_task(store.run())]
        stack.callback(lambda: [task.cancel() for task in running])
        await detect.link.wait_up()
        yield detect, store


def spooled(folder: Path) -> set[str]:
    """Return the ids in a spool's folder, as another process reads them."""
    connection = sqlite3.connect(folder / "spool.db")
    try:
        return {face_id for (face_id,) in connection.execute("SELECT id FROM faces")}
    finally:
        connection.close()


async def test_faces_arrive_as_they_were_and_leave_the_spool(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    faces = [face(number) for number in range(300)]
    async with neighbours(local, cloud) as (detect, store):
        await detect.publish(faces)
        await eventually(lambda: len(store.arrived) == 300)
        assert list(store.arrived.values()) == sorted(store.arrived.values(), key=lambda each: each.id)
        assert {each.id: each for each in faces} == store.arrived
        await eventually(lambda: spooled(tmp_path / "spool") == set())
        await eventually(lambda: forward.metric("faceferry_forward_taken_total") == 300)
    assert forward.stop() == 0


async def test_a_receipted_face_is_already_on_disk(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    """Copies the spool's files at the moment of a receipt: what a power cut just then would leave."""
    cloud.kill()
    snapshots: list[tuple[frozenset[str], Path]] = []

    def snapshot(ids: frozenset[str]) -> None:
        copy = tmp_path / f"copy-{len(snapshots)}"
        shutil.copytree(tmp_path / "spool", copy, ignore=shutil.ignore_patterns("reserve", "*-shm"))
        snapshots.append((ids, copy))

    async with neighbours(local, cloud) as (detect, _):
        detect.on_taken = snapshot
        for start in range(0, 100, 5):
            await detect.publish([face(number) for number in range(start, start + 5)])
    assert len(snapshots) >= 20
    for ids, copy in snapshots:
        assert ids <= spooled(copy)
    assert forward.log.count("crashed") == 0


async def test_killed_in_the_middle_nothing_receipted_is_lost(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    cloud.kill()
    faces = [face(number) for number in range(400)]
    async with neighbours(local, cloud) as (detect, store):
        publishing = asyncio.create_task(detect.publish(faces))
        for _ in range(3):
            await asyncio.sleep(0.4)
            forward.kill()
            forward.start()
        await publishing
        forward.kill()
        assert spooled(tmp_path / "spool") == {each.id for each in faces}
        forward.start()
        cloud.start()
        await eventually(lambda: len(store.arrived) == 400, 30)
        await eventually(lambda: not spooled(tmp_path / "spool"))


@pytest.mark.timeout(3 * OUTAGE_TIMEOUT_S)
async def test_a_long_outage_costs_disk_and_no_memory(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    """10,000 faces (or as many as asked for) wait for a cloud that is away; new faces overtake them then."""
    count = OUTAGE_FACES
    async with neighbours(local, cloud) as (detect, store):
        await detect.publish([face(number) for number in range(100)])
        await eventually(lambda: len(store.arrived) == 100)
        before_bytes = forward.resident_bytes
        cloud.kill()
        await detect.publish([face(number) for number in range(100, count)], OUTAGE_TIMEOUT_S)
        assert forward.resident_bytes - before_bytes < 64 * 1024 * 1024
        cloud.start()
        await eventually(lambda: len(store.arrived) > 300, 30)
        new = face(count)
        await detect.publish([new])
        await eventually(lambda: new.id in store.arrived, 30)
        overtaken = count - len(store.arrived)
        await eventually(lambda: len(store.arrived) == count + 1, OUTAGE_TIMEOUT_S)
        assert overtaken > 0
        assert forward.resident_bytes - before_bytes < 64 * 1024 * 1024
        await eventually(lambda: not spooled(tmp_path / "spool"), 30)


async def test_without_a_receipt_a_face_is_sent_again(
    local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    async with neighbours(local, cloud) as (detect, store):
        store.is_silent = True
        await detect.publish([face(1)])
        await eventually(lambda: store.order.count(face(1).id) >= 3)
        store.is_silent = False
        await eventually(lambda: face(1).id in store.arrived)
    assert forward.metric("faceferry_forward_resent_total") >= 2


async def test_a_refused_face_is_kept_aside_with_the_reason(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    async with neighbours(local, cloud) as (detect, store):
        store.refuses[face(1).id] = "not_an_image"
        await detect.publish([face(1), face(2)])
        await eventually(lambda: len(store.arrived) == 2)
        await eventually(lambda: not spooled(tmp_path / "spool"))
    connection = sqlite3.connect(tmp_path / "spool" / "spool.db")
    assert connection.execute("SELECT id, reason, payload FROM quarantine").fetchall() == [
        (face(1).id, "not_an_image", face(1).image)
    ]
    connection.close()
    assert forward.metric("faceferry_forward_refused_total") == 1


async def test_a_bare_image_on_the_homework_s_topic_becomes_a_face(
    local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    png = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
    async with neighbours(local, cloud) as (detect, store):
        detect.link.publish(Message(topic="test_topic", payload=png, qos=1))
        detect.link.publish(Message(topic="test_topic", payload=b"no image", qos=1))
        await eventually(lambda: store.arrived)
        (arrived,) = store.arrived.values()
    assert arrived.source == Source(DEVICE, "test-topic")
    assert (arrived.image, arrived.content_type) == (png, "image/png")
    assert arrived.extensions["framesize"] == "6x4"
    assert abs(arrived.time.timestamp() - time.time()) < 60
    assert forward.metric("faceferry_forward_dropped_total") == 1


async def test_bare_images_come_from_the_topics_that_are_set(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    picture = cv2.imencode(".jpg", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    set_up = settings(tmp_path, local, cloud) | {
        "FACEFERRY_BARE_TOPICS": "cam/{camera}/faces, hw03=lab, edge/status"
    }
    with ServiceProcess("forward", tmp_path, set_up) as forward:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
        async with neighbours(local, cloud) as (detect, store):
            for topic in ("cam/Front/faces", "hw03", "edge/status"):
                detect.link.publish(Message(topic=topic, payload=base64.b64encode(picture), qos=1))
            await eventually(lambda: len(store.arrived) == 3)
    arrived = {face.source.camera: face for face in store.arrived.values()}
    assert {name: face.extensions["topic"] for name, face in arrived.items()} == {
        "front": "cam/Front/faces",
        "lab": "hw03",
        "edge-status": "edge/status",
    }
    assert {face.image for face in arrived.values()} == {picture}


async def test_what_the_homeworks_of_others_publish_arrives_with_its_camera(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    """By MQTT 3.1.1 and at QoS 0, on the topics that they have, in each form that is an image."""
    named = "test_topic,faces,hw03=front,hw3_topic,edge/face,facedetect,usbcam/images,detector_out"
    named += ",face_cutter/{camera},face_detector_topic=door"
    cameras = {
        "test_topic": "test-topic",
        "faces": "faces",
        "hw03": "front",
        "hw3_topic": "hw3-topic",
        "edge/face": "edge-face",
        "facedetect": "facedetect",
        "usbcam/images": "usbcam-images",
        "detector_out": "detector-out",
        "face_cutter/camera-broker1": "camera-broker1",
        "face_detector_topic": "door",
    }
    expected: set[tuple[str, bytes]] = set()
    said: list[Any] = []
    for number, (topic, camera) in enumerate(cameras.items()):
        pixels = np.full((4, 6, 3), 20 * number, np.uint8)
        jpeg, png = (cv2.imencode(kind, pixels)[1].tobytes() for kind in (".jpg", ".png"))
        uri = b"data:image/jpeg;base64," + base64.b64encode(cv2.imencode(".jpg", pixels + 9)[1].tobytes())
        lines = base64.encodebytes(cv2.imencode(".png", pixels + 9)[1].tobytes())
        said += [(topic, payload, 0, False) for payload in (jpeg, png, uri, lines)]
        expected |= {(camera, jpeg), (camera, png)}
        expected |= {(camera, base64.b64decode(text)) for text in (uri.partition(b",")[2], lines)}
    set_up = settings(tmp_path, local, cloud) | {"FACEFERRY_BARE_TOPICS": named}
    with ServiceProcess("forward", tmp_path, set_up) as forward:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
        async with neighbours(local, cloud) as (_detect, store):
            await asyncio.to_thread(publish.multiple, said, "127.0.0.1", local.port, protocol=MQTTv311)
            await eventually(lambda: len(store.arrived) == len(expected), 30)
    assert {(face.source.camera, face.image) for face in store.arrived.values()} == expected


async def test_camera_states_are_relayed_and_its_own_is_told(
    local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    async with neighbours(local, cloud) as (detect, store):
        status = f"faceferry/{DEVICE}/cam/status"
        detect.link.publish(Message(topic=status, payload=b"online", qos=1, retain=True))
        await eventually(lambda: store.statuses.get(status) == b"online")
        own = f"faceferry/{DEVICE}/forward/status"
        detect.link.publish(Message(topic=own, payload=b"offline", qos=1))
        detect.link.publish(Message(topic=status, payload=b"<script>", qos=1))
        await eventually(lambda: forward.metric("faceferry_forward_dropped_total") == 2)
        assert store.statuses[status] == b"online"
        await eventually(lambda: store.statuses.get(own) == b"online")
        forward.signal(signal.SIGKILL)
        await eventually(lambda: store.statuses.get(own) == b"offline", 30)


async def test_faces_of_another_device_and_garbage_are_refused_and_counted(
    local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    stranger = mint(Source("other", "cam"), from_unix_s(1), b"x", "image/jpeg", {"box": "1"})
    async with neighbours(local, cloud) as (detect, store):
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
        message = encode_face(stranger)
        detect.link.publish(Message(topic=f"faceferry/{DEVICE}/cam/face", payload=b"x", qos=1))
        detect.link.publish(
            Message(topic=f"faceferry/{DEVICE}/cam/face", payload=b"x", qos=1, attributes=message.attributes)
        )
        await detect.publish([face(1)])
        await eventually(lambda: list(store.arrived) == [face(1).id])
        await eventually(lambda: stranger.id in detect.refused)
        await eventually(lambda: ("", "no_properties") in detect.unnamed)
    assert forward.metric("faceferry_forward_dropped_total") == 2
    assert "no_properties" in forward.log
    assert "bad_source" in forward.log


async def test_a_second_forward_stands_by_until_the_first_is_gone(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess
) -> None:
    await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
    for path in (tmp_path / "spool").iterdir():
        if not path.name.startswith("spool.db"):
            path.unlink()  # whatever a person may take for left over
    second = ServiceProcess("forward", tmp_path, settings(tmp_path, local, cloud)).start()
    try:
        await eventually(lambda: "spool.standing_by" in second.log)
        assert "mqtt.link_up" not in second.log
        forward.kill()
        async with neighbours(local, cloud) as (detect, store):
            await detect.publish([face(1)])
            await eventually(lambda: face(1).id in store.arrived)
    finally:
        second.kill()


async def test_at_its_budget_forward_takes_no_more_and_goes_on_when_there_is_room(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    small = {**settings(tmp_path, local, cloud), "FACEFERRY_SPOOL_MAX_BYTES": str(16 * 1024 * 1024)}
    cloud.kill()
    forward = ServiceProcess("forward", tmp_path, small).start()
    try:
        faces = [face(number, 200_000) for number in range(120)]  # 24 MB
        async with neighbours(local, cloud) as (detect, store):
            publishing = asyncio.create_task(detect.publish(faces))
            await eventually(lambda: "spool_full" in forward.log, 30)
            await eventually(lambda: forward.metric("faceferry_spool_full") == 1)
            size = sum(path.stat().st_size for path in (tmp_path / "spool").glob("spool.db*"))
            assert size < 17 * 1024 * 1024
            cloud.start()
            await publishing
            await eventually(lambda: len(store.arrived) == 120, 60)
    finally:
        forward.kill()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"FACEFERRY_CLOUD_MQTT_URL": "mqtt://127.0.0.1:1"}, "FACEFERRY_CLOUD_MQTT_URL"),
        ({"FACEFERRY_DEVICE": "No Name"}, "FACEFERRY_DEVICE"),
        ({"FACEFERRY_SPOOL_MAX_BYTES": "many"}, "FACEFERRY_SPOOL_MAX_BYTES"),
        ({"FACEFERRY_CLOUD_CA_FILE": "/does/not/exist"}, "/does/not/exist"),
    ],
)
def test_a_wrong_setting_names_itself_and_ends_with_status_2(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    same = "mqtt://127.0.0.1:1"
    given = {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOCAL_MQTT_URL": same,
        "FACEFERRY_CLOUD_MQTT_URL": "mqtt://127.0.0.1:2",
        "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
    }
    process = ServiceProcess("forward", tmp_path, {**given, **changed}).start()
    assert process.wait() == 2
    assert said in process.log
    assert "Traceback" not in process.log


async def test_a_bridge_that_copies_both_ways_does_not_send_a_face_round_for_ever(
    tmp_path: Path, cloud: MosquittoServer
) -> None:
    async with Proxy(cloud.port) as uplink:
        uplink.shape = Shape(bytes_per_s=1e7, delay_s=0.15)  # so that copies come back behind the receipts
        await bridged(tmp_path, cloud, uplink.port)


async def bridge_is_up(local: Link, cloud: MosquittoServer) -> None:
    """Wait until what is published at one broker comes to the other."""
    async with Link("cloud", Broker(cloud.url), identity="t", subscriptions=["bridge/up"]) as far:
        await far.wait_up()
        arriving = asyncio.ensure_future(anext(far))
        while not arriving.done():
            local.publish(Message(topic="bridge/up", qos=1))
            await asyncio.wait([arriving], timeout=0.2)


async def bridged(tmp_path: Path, cloud: MosquittoServer, port: int) -> None:
    """A recipe joins the house's broker with the cloud's by `topic # both`; MQTT 5 keeps the properties."""
    bridge = [
        "connection up",
        f"address 127.0.0.1:{port}",
        "bridge_protocol_version mqttv50",
        "cleansession true",
        "notifications false",
        "topic # both 1",
        "",
    ]
    local = MosquittoServer(tmp_path, "\n".join(bridge)).start()
    forward = ServiceProcess("forward", tmp_path, settings(tmp_path, local, cloud)).start()
    try:
        async with neighbours(local, cloud) as (detect, store):
            await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
            await bridge_is_up(detect.link, cloud)
            faces = [face(number) for number in range(20)]
            for each in faces:
                detect.send(each)
            await eventually(lambda: len(store.arrived) == 20)
            await asyncio.sleep(4)
            assert set(store.arrived) == {each.id for each in faces}
            assert forward.metric("faceferry_forward_taken_total") == 20
            assert forward.metric("faceferry_forward_sent_total") <= 40
            assert forward.metric("faceferry_forward_dropped_total") > 0
            assert forward.log.count("delivered_before") == 1
            sent = forward.metric("faceferry_forward_sent_total")
            await asyncio.sleep(2)
            assert forward.metric("faceferry_forward_sent_total") == sent
    finally:
        forward.kill()
        local.kill()
