"""A device that was away when faces were to be erased, as its users run it."""

from pathlib import Path

from services.common.erasure import entries, keys
from services.common.erasure.entries import EntryKind, LogEntry
from services.common.erasure.reports import Report, read_report
from services.common.erasure.selection import Selection, to_body
from services.common.mqtt import Broker, Link
from services.common.wire.faces import encode_face, mint
from services.common.wire.message import Message
from services.common.wire.times import from_unix_s
from services.common.wire.topics import Source
from services.forward.spool.commands import Changes
from services.forward.spool.disk import Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from tests.forward_rig import RESERVE_BYTES
from tests.remains import picture, remains
from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.system.test_forward import settings

BEGAN_S = 1_790_000_000
PRIVATE = keys.make().decode()
PUBLIC = keys.public_of(PRIVATE).decode()
SIGN, VERIFY = keys.signer(PRIVATE)
DEVICE = "porch"


def taken(number: int) -> SpooledFace:
    made = mint(Source(DEVICE, "front"), from_unix_s(BEGAN_S + number), picture(number), "image/jpeg", {})
    return SpooledFace(number, made.id, encode_face(made))


def order(selection: Selection) -> LogEntry:
    return entries.write(None, from_unix_s(BEGAN_S + 9_000), EntryKind.ORDERED, to_body(selection), SIGN)


async def test_it_erases_when_it_comes_back_before_it_sends_anything_and_says_so(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    folder = tmp_path / "spool"
    prepare(folder)
    faces = [taken(number) for number in range(1, 41)]
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    for face in faces:
        spool.write(Changes([face]))
    spool.write(Changes(refused={face.id: "bad_image" for face in faces[:10]}))
    spool.close()
    given = order(Selection(device=DEVICE, until=from_unix_s(BEGAN_S + 31)))
    other = order(Selection(device="lobby", until=from_unix_s(BEGAN_S + 99)))
    topics = [f"faceferry/{DEVICE}/erased/+", f"faceferry/{DEVICE}/+/face"]
    async with (
        Link("cloud", Broker(cloud.url), identity="store", subscriptions=topics) as store,
        Link(
            "local", Broker(local.url), identity="home", subscriptions=[f"faceferry/{DEVICE}/+/latest"]
        ) as home,
    ):
        await store.wait_up()
        await home.wait_up()
        for camera, state in (("front", b"online"), ("yard", b"online")):
            said = Message(topic=f"faceferry/{DEVICE}/{camera}/status", payload=state, qos=1, retain=True)
            home.publish(said)
            home.publish(
                Message(topic=f"faceferry/{DEVICE}/{camera}/latest", payload=b"x", qos=1, retain=True)
            )
        for each in (given, other):
            topic = f"faceferry/{DEVICE}/erase/{each.name}"
            store.publish(Message(topic=topic, payload=each.line, qos=1, retain=True))
        with_key = settings(tmp_path, local, cloud) | {
            "FACEFERRY_ERASE_KEY": PUBLIC,
            "FACEFERRY_DEVICE": DEVICE,
        }
        forward = ServiceProcess("forward", tmp_path, with_key).start()
        try:
            report = None
            async for delivery in store:
                delivery.acknowledge()
                if "/erased/" in delivery.message.topic:
                    report = read_report(delivery.message.payload)
                    break
            expected = {"waiting": 20, "quarantine": 10, "set_aside": 0, "files": 0}
            assert report == Report(given.name, DEVICE, expected)
            assert remains(folder, range(1, 31)) == {}
            assert forward.metric("faceferry_forward_erasures") == 1
            # What comes late is not taken, and whoever holds it is told.
            home.publish(faces[3].message)
            await eventually(lambda: forward.metric("faceferry_forward_dropped_total") >= 32)
            assert remains(folder, range(1, 31)) == {}
            cleared: set[str] = set()
            async for delivery in home:
                delivery.acknowledge()
                if not delivery.message.payload:
                    cleared.add(delivery.message.topic)
                if len(cleared) == 2:
                    break
        finally:
            forward.kill()
