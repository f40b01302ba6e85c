"""Cameras that are topics: a real broker, capture as it runs, and a client that publishes pictures."""

import asyncio
import contextlib
import getpass
import hashlib
import json
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.capture.cameras import parse_camera
from services.capture.check import check_source
from services.capture.subscription import MOST_PACKET_BYTES
from services.common.errors import SetupError
from services.common.mqtt import Broker, Link
from services.common.mqtt.packets import varint
from services.common.runtime.trust import digest
from services.common.wire.message import Message
from tests.capture_rig import CaptureProcess, Detector
from tests.mqtt_rig import server
from tests.storing import jpeg, png
from tests.support import MosquittoServer, eventually, running_broker

SECRET = "swordfish-17"  # noqa: S105 - it opens a broker of the test's own


class Rig:
    """Capture, and one who answers its frames."""

    def __init__(self, folder: Path, local: MosquittoServer) -> None:
        self.folder = folder
        self.local = local
        self.capture: CaptureProcess | None = None

    @asynccontextmanager
    async def run(self, cameras: str, **settings: object) -> AsyncIterator[tuple[CaptureProcess, Detector]]:
        async with Detector(self.local.url) as detector:
            await detector.wait_up()
            self.capture = CaptureProcess(self.folder, self.local.url, cameras, **settings)
            yield self.capture, detector


@pytest.fixture
def rig(tmp_path: Path, local: MosquittoServer) -> Iterator[Rig]:
    rig = Rig(tmp_path, local)
    yield rig
    if rig.capture is not None:
        rig.capture.kill()


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[MosquittoServer]:
    """Somebody else's broker."""
    with running_broker(tmp_path) as server:
        yield server


@asynccontextmanager
async def publisher(broker: Broker) -> AsyncIterator[Link]:
    async with Link("cloud", broker, identity="esp32-cam") as link:
        await link.wait_up()
        yield link


async def publish_until(link: Link, message: Message, claim: Callable[[], bool]) -> None:
    """Publish again and again until a claim holds: the first ones may come before the subscription."""
    async with asyncio.timeout(30):
        while not claim():
            link.publish(message)
            await asyncio.sleep(0.05)


def picture(number: int, **more: Any) -> Message:
    return Message(topic="esp32/porch", payload=jpeg(number), **more)


def events(capture: CaptureProcess, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capture.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def has_seen(detector: Detector, camera: str, number: int) -> Callable[[], bool]:
    return lambda: sha256(jpeg(number)) in detector.hashes[camera]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_each_message_is_a_frame_byte_for_byte_and_so_is_one_in_base64(
    rig: Rig, theirs: MosquittoServer
) -> None:
    async with (
        rig.run(f"porch={theirs.url}/esp32/porch") as (_, detector),
        publisher(Broker(theirs.url)) as link,
    ):
        await publish_until(link, picture(0), detector.more_than("porch", 0))
        for number in range(1, 4):
            link.publish(picture(number, qos=number % 2))
            await eventually(has_seen(detector, "porch", number))
        link.publish(Message(topic="esp32/porch", payload=b64encode(jpeg(4))))
        await eventually(has_seen(detector, "porch", 4))
        assert detector.states["porch"][-1] == "online"


async def test_what_was_kept_from_before_and_what_is_no_picture_are_no_frames(
    rig: Rig, theirs: MosquittoServer
) -> None:
    async with publisher(Broker(theirs.url)) as link:
        link.publish(picture(1, retain=True, qos=1))
        async with rig.run(f"porch={theirs.url}/esp32/porch?quiet_s=0") as (capture, detector):
            await eventually(lambda: detector.states["porch"][-1:] == ["online"])
            for payload in (png(), b"{}", b"", jpeg()[:-30]):
                link.publish(Message(topic="esp32/porch", payload=payload, qos=1))
            link.publish(picture(2))
            await eventually(detector.more_than("porch", 0))
            assert set(detector.hashes["porch"]) == {sha256(jpeg(2))}
            told = [line["reason"] for line in events(capture, "capture.bytes_skipped")]
            # Where newer ones wait already, older ones are not even looked at.
            assert told[:1] == ["retained"]
            assert set(told) <= {"retained", "png", "json", "empty", "truncated_image"}


async def test_several_topics_may_be_one_camera_and_its_own_broker_be_this_devices(rig: Rig) -> None:
    cameras = "front=mqtt:///frigate/front/+/snapshot"
    async with rig.run(cameras) as (_, detector), publisher(Broker(rig.local.url)) as link:
        for number, kind in enumerate(("person", "dog")):
            topic = f"frigate/front/{kind}/snapshot"
            message = Message(topic=topic, payload=jpeg(number))
            await publish_until(link, message, has_seen(detector, "front", number))


async def test_a_topic_that_falls_silent_is_stalled_and_comes_back(rig: Rig, theirs: MosquittoServer) -> None:
    cameras = f"porch={theirs.url}/esp32/porch?quiet_s=1"
    async with rig.run(cameras) as (capture, detector), publisher(Broker(theirs.url)) as link:
        await publish_until(link, picture(0), detector.more_than("porch", 0))
        await eventually(lambda: detector.states["porch"][-1:] == ["stalled"])
        before = detector.counts["porch"]
        await publish_until(link, picture(1), detector.more_than("porch", before))
        await eventually(lambda: detector.states["porch"][-1:] == ["online"])
        assert events(capture, "capture.program_ended")[0]["reason"] == "stalled"


async def test_a_broker_that_is_killed_takes_its_cameras_offline_and_brings_them_back(
    rig: Rig, theirs: MosquittoServer
) -> None:
    cameras = f"porch={theirs.url}/esp32/porch?quiet_s=0,other=test://?fps=5"
    async with rig.run(cameras) as (_, detector):
        await eventually(lambda: detector.states["porch"][-1:] == ["online"])
        theirs.kill()
        await eventually(lambda: detector.states["porch"][-1:] == ["offline"])
        await eventually(detector.more_than("other", detector.counts["other"] + 2))
        theirs.start()
        await eventually(lambda: detector.states["porch"][-1:] == ["online"])
        async with publisher(Broker(theirs.url)) as link:
            await publish_until(link, picture(1), detector.more_than("porch", 0))


async def test_a_refused_user_is_reported_and_the_password_is_not(rig: Rig, tmp_path: Path) -> None:
    with guarded_broker(tmp_path) as theirs:
        login = f"viewer:{SECRET}"
        right = f"mqtt://{login}@127.0.0.1:{theirs.port}/esp32/porch"
        wrong = right.replace(SECRET, f"{SECRET}-not")
        cameras = f"porch={right}?quiet_s=0,yard={wrong}?quiet_s=0"
        async with rig.run(cameras, log_level="debug", start_timeout_s=2) as (capture, detector):
            await eventually(lambda: detector.states["porch"][-1:] == ["online"])
            await eventually(lambda: events(capture, "capture.program_ended"))
            ended = events(capture, "capture.program_ended")[0]
            assert (ended["camera"], ended["reason"]) == ("yard", "unavailable")
            assert "authori" in ended["last_words"].lower()
            assert SECRET not in capture.log
            assert "viewer" not in capture.log
            assert SECRET not in " ".join(capture.process.cmdline())
        await check_source(parse_camera(f"a={right}"), timeout_s=20)
        with pytest.raises(SetupError, match="are host, user and password right") as problem:
            await check_source(parse_camera(f"a={wrong}"), timeout_s=2)
        assert SECRET not in str(problem.value)


async def test_over_tls_the_certificate_has_to_be_the_one_that_is_named(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    key, shown = certificate
    tls = f"certfile {shown}\nkeyfile {key}\n"
    with guarded_broker(tmp_path, tls) as theirs:
        url = f"a=mqtts://viewer:{SECRET}@127.0.0.1:{theirs.port}/esp32/porch"
        right = digest(der(shown))
        for option in (f"tls_sha256={right}", f"ca_file={shown}", "tls_verify=0"):
            await check_source(parse_camera(f"{url}?{option}"), timeout_s=20)
        wrong = "0" * 64
        for option, words in (
            (f"tls_sha256={wrong}", "it shows another certificate than the one that is named"),
            ("", "certificate verify failed"),
            ("ca_file=/nowhere/ca.pem", "ca_file: cannot be used"),
        ):
            with pytest.raises(SetupError, match=words):
                await check_source(parse_camera(f"{url}?{option}"), timeout_s=2)


async def test_nothing_is_said_to_a_broker_that_shows_another_certificate(
    certificate: tuple[Path, Path],
) -> None:
    heard: list[bytes] = []
    is_over = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(64):
                heard.append(data)
        is_over.set()

    key, shown = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown, key)
    async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"a=mqtts://viewer:{SECRET}@127.0.0.1:{port}/x?tls_sha256={'0' * 64}"
        with pytest.raises(SetupError):
            await check_source(parse_camera(url), timeout_s=1)
        await is_over.wait()
    assert heard == []


async def test_a_flood_of_large_pictures_takes_bounded_memory_and_the_newest_are_seen(
    rig: Rig, theirs: MosquittoServer
) -> None:
    # Comments, which are not read.
    large = jpeg()[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 40 + jpeg()[2:]
    cameras = f"porch={theirs.url}/esp32/porch,other=test://?fps=5"
    async with rig.run(cameras) as (capture, detector), publisher(Broker(theirs.url)) as link:
        await publish_until(link, picture(0), detector.more_than("porch", 0))
        before = capture.resident_bytes
        most = before
        other = detector.counts["other"]
        for _ in range(5):
            for _ in range(10):
                link.publish(Message(topic="esp32/porch", payload=large))
            await asyncio.sleep(0.05)
            most = max(most, capture.resident_bytes)
        await publish_until(link, picture(7), has_seen(detector, "porch", 7))
        assert most - before < 150 * 1024 * 1024
        await eventually(detector.more_than("other", other + 2))


async def test_a_broker_that_sends_more_than_it_may_is_left(rig: Rig) -> None:
    connack = bytes([0x20, 3, 0, 0, 0])
    is_left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(4096)
        assert bytes([0x27]) + MOST_PACKET_BYTES.to_bytes(4) in connect  # its Maximum Packet Size
        writer.write(connack)
        subscribe = await reader.read(4096)
        body = subscribe[2:4] + bytes([0, 0])
        writer.write(bytes([0x90, len(body)]) + body)
        writer.write(bytes([0x30]) + varint(MOST_PACKET_BYTES) + bytes(65_536))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        is_left.set()

    async with (
        server(serve) as port,
        rig.run(f"porch=mqtt://127.0.0.1:{port}/x?quiet_s=0") as (capture, detector),
    ):
        async with asyncio.timeout(30):
            await is_left.wait()
        await eventually(lambda: events(capture, "mqtt.link_down"))
        assert "has sent a packet of" in events(capture, "mqtt.link_down")[0]["error"]
        assert detector.counts["porch"] == 0


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def guarded_broker(folder: Path, more: str = "") -> Any:
    """A broker that lets in one user."""
    passwords = folder / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", passwords, "viewer", SECRET], check=True, capture_output=True
    )
    # As root it would become another, who may not look into the test's folder.
    user = f"user {getpass.getuser()}\n"
    return running_broker(folder, f"{user}{more}allow_anonymous false\npassword_file {passwords}\n")
