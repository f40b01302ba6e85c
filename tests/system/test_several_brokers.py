"""forward, store and gallery, processes of their own, with three brokers that know nothing of each other."""

import asyncio
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from tests.seeing import gallery_process
from tests.storing import images_in
from tests.support import MosquittoServer, ServiceProcess, eventually, running_broker
from tests.system.test_forward import DEVICE, Detect, face

FACES = 120


@dataclass
class Site:
    """Three brokers in the cloud, forward and a store.

    Attributes:
        folder: the store's.
        local: the device's broker.
        clouds: the others.
        forward, store: the services.
    """

    folder: Path
    local: MosquittoServer
    clouds: list[MosquittoServer]
    forward: ServiceProcess
    store: ServiceProcess

    def used(self) -> MosquittoServer:
        """The broker that forward is connected to, by its own metrics."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.forward.http_port}/metrics", timeout=5
        ) as answer:
            said = answer.read().decode()
        return next(
            each for each in self.clouds if f'broker="127.0.0.1:{each.port}",link="cloud"}} 1.0' in said
        )

    def is_forward_up(self) -> bool:
        try:
            return self.used() is not None
        except (StopIteration, OSError):
            return False


@pytest.fixture
def site(tmp_path: Path, local: MosquittoServer) -> Iterator[Site]:
    with ExitStack() as stack:
        clouds = [stack.enter_context(running_broker(tmp_path)) for _ in range(3)]
        common = {
            "FACEFERRY_DEVICE": DEVICE,
            "FACEFERRY_LOG_FORMAT": "json",
            "FACEFERRY_LOCAL_MQTT_URL": local.url,
            "FACEFERRY_CLOUD_MQTT_URL": ",".join(each.url for each in clouds),
            "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
            "FACEFERRY_STORE_URL": (tmp_path / "faces").as_uri(),
        }
        services = [ServiceProcess(name, tmp_path, common) for name in ("forward", "store")]
        for service in services:
            stack.callback(service.kill)
            service.start()
        yield Site(tmp_path / "faces", local, clouds, *services)


async def until_all_is_up(site: Site) -> None:
    await eventually(lambda: site.is_forward_up() and site.store.log.count("mqtt.link_up") == 6, 30)


async def deliver(site: Site, numbers: range) -> None:
    """Have forward take faces, and wait until all of them are stored."""
    async with (
        Link(
            "local", Broker(site.local.url), identity="t", subscriptions=[f"faceferry/{DEVICE}/taken"]
        ) as link,
        asyncio.TaskGroup() as tasks,
    ):
        detect = Detect(link)
        receiving = tasks.create_task(detect.run())
        await link.wait_up()
        await detect.publish([face(number) for number in numbers])
        receiving.cancel()
    wanted = {face(number).id for number in numbers}
    await eventually(lambda: wanted <= {Path(name).stem for name in images_in(site.folder)}, 40)


async def test_with_two_of_three_brokers_gone_for_good_all_faces_arrive(site: Site) -> None:
    await until_all_is_up(site)
    for round_number in range(3):
        await deliver(site, range(round_number * FACES, (round_number + 1) * FACES))
        if round_number < 2:
            site.used().kill()
    assert len(images_in(site.folder)) == 3 * FACES
    assert site.store.metric("faceferry_store_puts_total") >= 3 * FACES
    assert site.forward.metric("faceferry_forward_resent_total") <= 0.05 * 3 * FACES


async def test_a_store_is_ready_with_one_broker_and_tells_of_the_others(site: Site) -> None:
    await until_all_is_up(site)
    for each in site.clouds[1:]:
        each.kill()

    def notes() -> dict[str, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.store.http_port}/readyz", timeout=5) as answer:
            body = answer.read().decode()
        notes: dict[str, str] = json.loads(body)["notes"]
        return notes

    await eventually(lambda: [said == "ok" for said in notes().values()] == [True, False, False], 20)
    assert all("no connection to" in said for said in list(notes().values())[1:])


async def test_a_frozen_broker_is_left_while_faces_flow(site: Site) -> None:
    await until_all_is_up(site)
    await deliver(site, range(FACES))
    frozen = site.used()
    os.kill(frozen.pid, signal.SIGSTOP)
    await deliver(site, range(FACES, 2 * FACES))
    assert site.used() is not frozen
    assert len(images_in(site.folder)) == 2 * FACES


def shown(port: int) -> str | None:
    """What the gallery shows of the device."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/devices", timeout=5) as answer:
        page = answer.read().decode()
    found = re.search(rf'data-status="{DEVICE}/forward" data-state="(\w+)"', page)
    return found[1] if found else None


async def test_the_gallery_shows_a_device_as_it_is_within_30_s_wills_or_not(site: Site) -> None:
    """It moves when its broker is killed; when it dies together with its broker nobody publishes a will."""
    await until_all_is_up(site)
    async with gallery_process(site.folder.parent, ",".join(each.url for each in site.clouds)) as (_, port):
        await eventually(lambda: shown(port) == "online", 30)
        first = site.used()
        first.kill()
        await eventually(site.is_forward_up, 20)
        first.start()  # it knows nothing any more
        await asyncio.sleep(1.0)
        assert shown(port) == "online"
        second = site.used()
        os.kill(second.pid, signal.SIGSTOP)
        site.forward.kill()
        os.kill(second.pid, signal.SIGKILL)  # without a moment in which it goes on
        second.kill()
        assert shown(port) == "online", "nobody can know"
        await eventually(lambda: shown(port) == "offline", 30)
        site.forward.start()
        await eventually(lambda: shown(port) == "online", 30)


async def test_a_will_that_comes_late_does_not_hide_that_the_device_is_elsewhere(site: Site) -> None:
    """A frozen broker, when it goes on, publishes the will of the connection that has long been left."""
    await until_all_is_up(site)
    async with gallery_process(site.folder.parent, ",".join(each.url for each in site.clouds)) as (_, port):
        await eventually(lambda: shown(port) == "online", 30)
        frozen = site.used()
        os.kill(frozen.pid, signal.SIGSTOP)
        await deliver(site, range(3))
        await eventually(lambda: site.is_forward_up() and site.used() is not frozen, 30)
        await asyncio.sleep(24.0)
        os.kill(frozen.pid, signal.SIGCONT)
        for _ in range(10):
            await asyncio.sleep(0.3)
            assert shown(port) == "online"
