"""An erasure with faces in all places: afterwards no byte of them is in any file, and the log says so.

What is searched for are the bytes of the pictures, in every file of the store, of the spool and of the
S3 server with the versions that it keeps.
"""

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aioboto3
import pytest

from services.commands import erase as command
from services.common.erasure import keys
from services.common.mqtt import Broker, Link
from services.common.storage.backends import open_store
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.topics import Source
from services.forward.spool.commands import Changes
from services.forward.spool.disk import Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from services.forward.spool.rows import UNANSWERED
from services.store.admission import to_object
from services.up.brokers import free_port
from tests.contract.test_store_sweep import keep_versions
from tests.forward_rig import RESERVE_BYTES
from tests.remains import picture, remains
from tests.storing import StoreProcess, receipted
from tests.support import MosquittoServer, S3Server, ServiceProcess, eventually

FRONT, YARD = Source("porch", "front"), Source("porch", "yard")
BEGAN = datetime.now(UTC) - timedelta(hours=5)
TOKEN = "a token that is long enough"  # noqa: S105


def taken(number: int, source: Source = FRONT) -> Face:
    return faces.mint(source, BEGAN + timedelta(seconds=number), picture(number), "image/jpeg", {})


@dataclass
class Site:
    """A store that can be searched.

    Attributes:
        url: the store's.
        folder: with all files of it, and of all else.
        key: the private key's file.
        server: the S3 server, if it is one.
    """

    url: str
    folder: Path
    key: Path
    server: S3Server | None = None

    @property
    def public(self) -> str:
        return self.key.with_suffix(".pub").read_text()

    def command(self, *arguments: str) -> list[str]:
        files = ["--key", str(self.key), "--public-key", str(self.key.with_suffix(".pub"))]
        return ["--store", self.url, *files, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.cli", "erase", *self.command(*arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    async def overwrite(self, items: Iterable[Face]) -> None:
        """Have the bucket keep older versions of some, and marks of their deletion."""
        if self.server is None:
            return
        session = aioboto3.Session(
            aws_access_key_id=self.server.key, aws_secret_access_key=self.server.secret
        )
        async with session.client("s3", endpoint_url=self.server.url, region_name="us-east-1") as s3:
            for number, face in enumerate(items):
                name = f"home/{to_object(face).key}"
                await s3.put_object(Bucket="faces", Key=name, Body=face.image, Metadata={"id": face.id})
                if number % 2:
                    await s3.delete_object(Bucket="faces", Key=name)


@pytest.fixture(params=["folder", "s3 with versions"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    private = keys.make()
    key = tmp_path / "erase.key"
    key.write_bytes(private)
    key.with_suffix(".pub").write_bytes(keys.public_of(private.decode()))
    if request.param == "folder":
        yield Site((tmp_path / "faces").as_uri(), tmp_path, key)
        return
    server = S3Server(request.getfixturevalue("s3_program"), tmp_path, is_versioning=True).start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.create_bucket("faces")
    keep_versions(server)
    yield Site("s3://faces/home", tmp_path, key, server)
    server.kill()


def spool_of(folder: Path, numbers: list[int]) -> None:
    """What a device that is away holds: some that wait, some that were refused, some that are set aside."""
    prepare(folder)
    with closing(Spool(folder, RESERVE_BYTES, "porch")) as spool:
        for number in numbers:
            face = taken(number)
            spool.write(Changes([SpooledFace(number, face.id, faces.encode_face(face))]))
        third = len(numbers) // 3
        spool.write(Changes(refused={taken(number).id: "bad_image" for number in numbers[:third]}))
        aside = {taken(number).id: UNANSWERED for number in numbers[third : 2 * third]}
        while len(aside) > len(done := spool.whole.set_aside(aside, {})):
            aside = {face_id: why for face_id, why in aside.items() if face_id not in done}


@asynccontextmanager
async def device(broker: MosquittoServer) -> AsyncIterator[Link]:
    topics = ["faceferry/porch/stored"]
    async with Link("cloud", Broker(broker.url), identity="porch", subscriptions=topics) as link:
        await link.wait_up()
        yield link


def image_status(port: int, face: Face) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/image/{to_object(face).key}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_200_faces_in_all_places_leave_no_byte_behind(
    site: Site, local: MosquittoServer, broker: MosquittoServer
) -> None:
    stored, held, flying, kept = range(120), range(120, 165), range(165, 200), range(1_000, 1_020)
    gone = range(200)
    spool = site.folder / "spool"
    spool_of(spool, list(held))
    port = free_port()
    gallery_settings = {
        "FACEFERRY_CLOUD_MQTT_URL": broker.url,
        "FACEFERRY_STORE_URL": site.url,
        "FACEFERRY_GALLERY_PORT": str(port),
        "FACEFERRY_GALLERY_TOKEN": TOKEN,
        "FACEFERRY_ERASE_KEY": site.public,
    }
    forward_settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": broker.url,
        "FACEFERRY_SPOOL_PATH": str(spool),
        "FACEFERRY_ERASE_KEY": site.public,
    }
    more = {
        "FACEFERRY_ERASE_KEY": site.public,
        "FACEFERRY_STORE_ERASURES_S": "0.2",
        "FACEFERRY_STORE_INDEX_S": "0.2",
        **(site.server.environment if site.server is not None else {}),
    }
    with StoreProcess(broker.url, site.url, site.folder / "store.log", **more) as store:
        await store.until_ready()
        async with device(broker) as porch:
            for number in stored:
                porch.publish(faces.encode_face(taken(number)))
            for number in kept:
                porch.publish(faces.encode_face(taken(number, YARD)))
            await receipted(porch, len(stored) + len(kept), 60.0)
            await eventually(lambda: store.metric("faceferry_store_indexed_total") == len(stored) + len(kept))
            await site.overwrite(taken(number) for number in stored[:20])
            with ServiceProcess("gallery", site.folder, gallery_settings):
                await eventually(lambda: image_status(port, taken(100)) == 200)
                assert remains(site.folder, gone)
                until = (BEGAN + timedelta(seconds=500)).isoformat()
                arguments = ["--device", "porch", "--camera", "front", "--to", until, "--settle", "2"]
                looked = site.run(*arguments, "--dry-run")
                assert f"{len(stored)} faces are stored" in looked.stdout, looked
                erasing = asyncio.create_task(asyncio.to_thread(site.run, *arguments, "--yes"))
                for number in flying:  # on their way while it goes
                    porch.publish(faces.encode_face(taken(number)))
                    await asyncio.sleep(0.05)
                done = await erasing
                assert (done.returncode, "nothing is left" in done.stdout) == (0, True), done
                assert image_status(port, taken(100)) == 404
                assert image_status(port, taken(kept[0], YARD)) == 200
                for number in flying:  # and once more, afterwards
                    porch.publish(faces.encode_face(taken(number)))
                await eventually(lambda: store.metric("faceferry_store_refused_total") >= len(flying), 60.0)
        with ServiceProcess("forward", site.folder, forward_settings) as forward:
            await eventually(lambda: store.metric("faceferry_store_erasure_reports_total") == 1, 60.0)
            assert forward.metric("faceferry_forward_dropped_total") == len(held)
            assert remains(site.folder, gone) == {}
    assert remains(site.folder, gone) == {}
    assert {number for some in remains(site.folder, kept).values() for number in some} == set(kept)
    async with open_store(ObjectStoreSettings(store_url=site.url)) as objects:
        left = {copy.key async for copy in objects.copies("") if "camera=front" in copy.key}
    assert left == set()
    # One that was set aside may have been put back for a try by then.
    told = site.run("--status").stdout.partition("porch: ")[2].partition("\n")[0]
    assert sum(int(part.split()[0]) for part in told.split(", ")) == len(held), told
    see_log(site)


def see_log(site: Site) -> None:
    """The log verifies, and a changed byte is found."""
    log = site.folder / "log"
    log.write_text(site.run("--log").stdout)
    assert site.run("--verify", str(log)).returncode == 0
    content = bytearray(log.read_bytes())
    for place in random.Random(1).sample(range(len(content)), 3):
        changed = content.copy()
        changed[place] ^= 1
        log.write_bytes(changed)
        assert site.run("--verify", str(log)).returncode == 1


def erase_here(arguments: list[str], environment: dict[str, str]) -> None:
    """What the command does, in a process that need not load it first, and was begun by an earlier test."""
    os.environ.update(environment)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    raise SystemExit(command.run(parser.parse_args(arguments)))


@pytest.mark.timeout(1_500)
@pytest.mark.parametrize(
    "kills", [pytest.param(5, marks=pytest.mark.long), pytest.param(50, marks=pytest.mark.proof)]
)
async def test_an_erasure_that_is_killed_at_any_moment_is_finished_by_the_next(
    site: Site, kills: int
) -> None:
    """Each kill is of an erasure of its own, at moments spread over all that it does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["services.commands.erase", "tests.system.test_erasure"])
    chance, lasts_s, killed = random.Random(7), 0.0, 0
    arguments = site.command("--device", "porch", "--settle", "0.1", "--yes")
    resume = site.command("--resume", "--settle", "0")
    for number in range(1_000):
        numbers = range(number * 20, number * 20 + 12)
        async with open_store(ObjectStoreSettings(store_url=site.url)) as objects:
            await objects.verify()
            for each in numbers:
                await objects.put(to_object(taken(each)))
        await site.overwrite(taken(each) for each in numbers)
        until = (BEGAN + timedelta(seconds=number * 20 + 19)).isoformat()
        began_s = time.monotonic()
        child = context.Process(target=erase_here, args=([*arguments, "--to", until], dict(os.environ)))
        child.start()
        if number < 2:  # the first one loads what all need
            child.join(60)
            lasts_s = time.monotonic() - began_s
            assert child.exitcode == 0
            continue
        await asyncio.sleep(chance.uniform(0.0, lasts_s))
        child.kill()
        child.join(60)
        killed += child.exitcode != 0
        if chance.random() < 0.3:  # and what goes on is killed, too
            again = context.Process(target=erase_here, args=(resume, dict(os.environ)))
            again.start()
            await asyncio.sleep(chance.uniform(0.0, lasts_s))
            again.kill()
            again.join(60)
        last = context.Process(target=erase_here, args=([*arguments, "--to", until], dict(os.environ)))
        last.start()
        last.join(60)
        assert last.exitcode == 0
        left = await asyncio.to_thread(remains, site.folder, numbers)
        assert left == {}
        if killed == kills:
            break
    verified = site.run("--verify", "-")
    assert (verified.returncode, killed) == (0, kills), verified
    assert "open" not in site.run("--status").stdout


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_device_that_is_killed_while_it_erases_goes_on(
    site: Site, local: MosquittoServer, broker: MosquittoServer
) -> None:
    if site.server is not None:
        pytest.skip("the same device")
    chance = random.Random(3)
    spool = site.folder / "spool"
    numbers = list(range(1, 601))
    spool_of(spool, numbers)
    settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": broker.url,
        "FACEFERRY_SPOOL_PATH": str(spool),
        "FACEFERRY_ERASE_KEY": site.public,
    }
    async with open_store(ObjectStoreSettings(store_url=site.url)) as objects:
        await objects.verify()
    assert site.run("--device", "porch", "--settle", "0", "--yes").returncode == 0
    async with Link(
        "cloud", Broker(broker.url), identity="store", subscriptions=["faceferry/porch/erased/+"]
    ) as link:
        await link.wait_up()
        lines = site.run("--log").stdout.splitlines()
        name = hashlib.sha256(lines[0].encode()).hexdigest()[:32]
        topic = f"faceferry/porch/erase/{name}"
        link.publish(Message(topic=topic, payload=lines[0].encode(), qos=1, retain=True))
        for _ in range(20):
            forward = ServiceProcess("forward", site.folder, settings).start()
            await eventually(lambda: "mqtt.link_up" in forward.log)  # noqa: B023 - it is called before the next
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            forward.kill()
        with ServiceProcess("forward", site.folder, settings):
            async with asyncio.timeout(60):
                await anext(link)
            await eventually(lambda: remains(spool, numbers) == {})
