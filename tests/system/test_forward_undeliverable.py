"""Faces that cannot be delivered as things are, with real brokers: they hold up no other, and come back."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.common.wire.faces import Face, mint
from services.common.wire.times import from_unix_s
from services.common.wire.topics import Source
from tests.conftest import skip
from tests.custody.faces import with_comment
from tests.support import MosquittoServer, ServiceProcess, eventually, running_broker
from tests.system.test_forward import DEVICE, face, neighbours, settings, spooled

ACL = """
topic readwrite #
user dev
topic read faceferry/+/stored
pattern write faceferry/%u/+/status
"""
ALLOWED = "pattern write faceferry/%u/+/face\n"


def guarded(folder: Path, rules: str) -> str:
    """Return the configuration of a broker that lets `dev` do what the rules say, and the store anything."""
    acl = folder / "acl"
    acl.write_text(ACL + rules)
    acl.chmod(0o644)
    return f"acl_file {acl}\n" + ("user root\n" if os.geteuid() == 0 else "")


@contextmanager
def running(
    folder: Path, local: MosquittoServer, cloud: MosquittoServer, **more: str
) -> Iterator[ServiceProcess]:
    as_dev = f"mqtt://dev@127.0.0.1:{cloud.port}"
    named = {f"FACEFERRY_{name.upper()}": value for name, value in more.items()}
    environment = {**settings(folder, local, cloud), "FACEFERRY_CLOUD_MQTT_URL": as_dev, **named}
    process = ServiceProcess("forward", folder, environment).start()
    try:
        yield process
    finally:
        process.kill()


def face_of(device: str, number: int, camera: str = "cam", size_bytes: int = 20_000) -> Face:
    image = with_comment(number.to_bytes(8) + bytes(size_bytes))
    return mint(
        Source(device, camera), from_unix_s(1_750_000_000 + number / 1000), image, "image/jpeg", {"box": "1"}
    )


def requeue(folder: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "services.cli", "spool", "requeue", str(folder / "spool"), "--json"]
    done = subprocess.run([*command, *arguments], capture_output=True, check=True, timeout=30)
    count: int = json.loads(done.stdout)["requeued"]
    return count


def apart(folder: Path) -> dict[str, int]:
    command = [sys.executable, "-m", "services.cli", "spool", str(folder / "spool"), "--json"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    found: dict[str, int] = json.loads(done.stdout)["set_aside"]
    return found


def is_ready(process: ServiceProcess) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.http_port}/readyz", timeout=2):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


async def test_faces_taken_under_a_wrong_name_hold_up_none_and_can_be_put_back_under_the_right_one(
    tmp_path: Path, local: MosquittoServer
) -> None:
    with running_broker(tmp_path, guarded(tmp_path, ALLOWED)) as cloud:
        wrong = [face_of("wrong", number) for number in range(1_000, 1_038)]
        with running(tmp_path, local, cloud, device="wrong") as forward:
            async with neighbours(local, cloud, device="wrong") as (detect, store):
                await detect.publish(wrong)
                await eventually(lambda: apart(tmp_path) == {"not_authorized": 38}, 20)
                assert not store.arrived
            assert not is_ready(forward)
            await eventually(lambda: forward.metric("faceferry_set_aside_faces") == 38)
        with running(tmp_path, local, cloud) as forward:
            async with neighbours(local, cloud) as (detect, store):
                good = [face(number) for number in range(300)]
                await detect.publish(good)
                await eventually(lambda: len(store.arrived) == 300, 20)
                assert is_ready(forward)
                assert requeue(tmp_path, "--device", DEVICE) == 38
                await eventually(lambda: len(store.arrived) == 338, 20)
                assert {each.source.device for each in store.arrived.values()} == {DEVICE}
                await eventually(lambda: not spooled(tmp_path / "spool"))
        assert apart(tmp_path) == {}


async def test_a_spool_of_another_device_is_said_at_the_start_and_waits(
    tmp_path: Path, local: MosquittoServer
) -> None:
    with running_broker(tmp_path) as cloud:
        cloud.kill()
        with running(tmp_path, local, cloud, device="wrong"):
            async with neighbours(local, local, device="wrong") as (detect, _):
                await detect.publish([face_of("wrong", number) for number in range(20)])
        with running(tmp_path, local, cloud) as forward:
            await eventually(lambda: "spool.holds_faces_of_others" in forward.log)
            assert "faceferry/wrong/cam/face" in forward.log
            cloud.start()
            async with neighbours(local, cloud) as (detect, store):
                await detect.publish([face(1)])
                await eventually(lambda: list(store.arrived) == [face(1).id])
                await eventually(lambda: apart(tmp_path) == {"other_device": 20})
        with running(tmp_path, local, cloud, device="wrong"):
            async with neighbours(local, cloud, device="wrong") as (_, store):
                await eventually(lambda: len(store.arrived) == 20, 20)


async def test_what_a_broker_refuses_comes_back_by_itself_when_it_is_allowed(
    tmp_path: Path, local: MosquittoServer
) -> None:
    rules = "topic write faceferry/dev/cam/face\n"
    with (
        running_broker(tmp_path, guarded(tmp_path, rules)) as cloud,
        running(tmp_path, local, cloud) as forward,
    ):
        forbidden = [face_of(DEVICE, number, camera="secret") for number in range(40)]
        async with neighbours(local, cloud) as (detect, store):
            await detect.publish([*forbidden, *(face(number) for number in range(200))])
            await eventually(lambda: len(store.arrived) == 200, 20)
            await eventually(lambda: apart(tmp_path) == {"not_authorized": 40}, 20)
            assert forward.metric("faceferry_quarantine_faces") == 0
            assert "forward.face_set_aside" in forward.log
            cloud.kill()
            guarded(tmp_path, ALLOWED)
            cloud.start()
            await eventually(lambda: len(store.arrived) == 240, 30)
            await eventually(lambda: not spooled(tmp_path / "spool"), 30)
        assert apart(tmp_path) == {}


async def test_a_broker_s_limit_is_not_a_face_s_fault(tmp_path: Path, local: MosquittoServer) -> None:
    large = [face_of(DEVICE, number, size_bytes=200_000) for number in range(1_000, 1_010)]
    small = [face(number) for number in range(100)]
    with running_broker(tmp_path) as cloud:
        cloud.kill()
        roomy = cloud.config.read_text()
        cloud.config.write_text(roomy.replace(loopback_line(roomy), "max_packet_size 100000"))
        cloud.start()
        with running(tmp_path, local, cloud) as forward:
            async with neighbours(local, cloud) as (detect, store):
                await detect.publish([*large, *small])
                await eventually(lambda: len(store.arrived) == 100, 20)
                await eventually(lambda: apart(tmp_path) == {"packet_too_large": 10}, 20)
                await eventually(lambda: detect.most_bytes is not None)
                assert 90_000 < (detect.most_bytes or 0) < 100_000, "detect is told, and cuts smaller ones"
                assert forward.metric("faceferry_quarantine_faces") == 0
                cloud.kill()
                cloud.config.write_text(roomy)
                cloud.start()
                await eventually(lambda: len(store.arrived) == 110, 30)
                await eventually(lambda: (detect.most_bytes or 0) > 1_000_000)
            assert apart(tmp_path) == {}


def loopback_line(config: str) -> str:
    return next(line for line in config.splitlines() if line.startswith("max_packet_size"))


async def test_a_silent_store_is_knocked_at_and_not_flooded(tmp_path: Path, local: MosquittoServer) -> None:
    with running_broker(tmp_path) as cloud, running(tmp_path, local, cloud) as forward:
        async with neighbours(local, cloud) as (detect, store):
            store.is_silent = True
            await detect.publish([face(number) for number in range(100)])
            await eventually(lambda: forward.metric("faceferry_forward_store_silent") == 1, 20)
            sent = forward.metric("faceferry_forward_sent_total")
            since_s = time.monotonic()
            await eventually(lambda: time.monotonic() - since_s > 8, 12)
            assert forward.metric("faceferry_forward_sent_total") - sent <= 4
            store.is_silent = False
            await eventually(lambda: len(store.arrived) == 100, 40)
            assert forward.metric("faceferry_forward_store_silent") == 0


async def test_what_forward_never_takes_detect_is_told(tmp_path: Path, local: MosquittoServer) -> None:
    with running_broker(tmp_path) as cloud, running(tmp_path, local, cloud) as forward:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
        async with neighbours(local, cloud) as (detect, _):
            bad = dataclasses.replace(face(1), image=b"other bytes")
            detect.send(bad)
            await eventually(lambda: detect.refused == {bad.id: "id_mismatch"})


@contextmanager
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, as a folder: a real file system in an image."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        skip("a disk image takes root and mkfs.ext4")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    command = ["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        skip(f"no disk image can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        unmount(folder)


def mount_another(folder: Path) -> None:
    """Put a new disk where a broken one was."""
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


def fail(folder: Path) -> None:
    """Have the file system meet an error, as a broken card gives it: it goes read-only by itself."""
    command = ["findmnt", "-n", "-o", "SOURCE", str(folder)]
    device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")
    except OSError as error:
        skip(f"no error can be made here: {error}")


async def test_a_disk_that_takes_no_writes_is_said_and_nothing_is_receipted(
    tmp_path: Path, local: MosquittoServer
) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(disk(tmp_path))
        cloud = stack.enter_context(running_broker(tmp_path))
        forward = stack.enter_context(running(tmp_path, local, cloud, spool_path=str(folder / "spool")))
        async with neighbours(local, cloud) as (detect, store):
            await detect.publish([face(1)])
            await eventually(lambda: face(1).id in store.arrived)
            await eventually(lambda: is_ready(forward) and not spooled(folder / "spool"))
            fail(folder)
            await eventually(lambda: not is_ready(forward), 6)
            detect.send(face(2))
            await eventually(lambda: forward.metric("faceferry_forward_dropped_total") == 1)
            assert face(2).id not in detect.taken
            assert forward.exit_status is None
            assert "spool.takes_no_faces" in forward.log
            assert "Traceback" not in forward.log
            unmount(folder)
            mount_another(folder)
            await eventually(lambda: forward.exit_status is not None, 20)
            forward.start()
            await detect.publish([face(2)])
            await eventually(lambda: is_ready(forward), 6)


async def test_the_room_that_comes_back_is_said_without_a_new_face(
    tmp_path: Path, local: MosquittoServer
) -> None:
    with running_broker(tmp_path) as cloud:
        cloud.kill()
        with running(tmp_path, local, cloud, spool_max_bytes=str(16 * 1024 * 1024)) as forward:
            await eventually(lambda: "mqtt.link_up" in forward.log)
            async with neighbours(local, local) as (detect, _):
                for number in range(120):
                    detect.send(face(number, 200_000))
                await eventually(lambda: "forward.at_budget" in forward.log, 20)
                assert not is_ready(forward)
            cloud.start()
            async with neighbours(local, cloud):
                await eventually(lambda: is_ready(forward), 30)
                await eventually(lambda: forward.metric("faceferry_spool_full") == 0)
