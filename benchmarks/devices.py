"""Many devices that send faces to one store, and what that costs.

All but one are simulated: each has a connection of its own, publishes as forward does, and hears its own
receipts. The last is a real forward behind a broker of its own, fed as detect feeds it.
"""

import asyncio
import contextlib
import itertools
import resource
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.rig import Usage, usage_of
from benchmarks.simulated import Device, Ledger
from benchmarks.thin import ThinDevice
from tests.support import MosquittoServer, ServiceProcess, eventually

REAL_DEVICE = "bench"
FACES_A_S = 180.0
REAL_FACES_A_S = 20.0
WARM_UP_S = 4.0
CONNECT_AT_ONCE = 20
RECEIPT_S = 20.0
"""A face without its receipt for so long has none."""


class NotReceipted(Exception):
    """Faces were published, and nobody has said that they are safe."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one measurement came to.

    Attributes:
        cpu_ms: processor milliseconds a face by part: `store` and `cloud` over all faces, `forward` over its
            own.
        resident_mb: by part.
        receipt_ms: for each face of a simulated device, from its publication to its receipt.
        faces_a_receipt: of the simulated devices.
        busy: share of this machine's processors that was not idle, whoever had it.
    """

    cpu_ms: dict[str, float]
    resident_mb: dict[str, float]
    receipt_ms: list[float]
    faces_a_receipt: float
    busy: float


@dataclass(frozen=True, slots=True)
class Site:
    """Both brokers, the store's replicas and the real forward, each a process that runs."""

    cloud: MosquittoServer
    local: MosquittoServer
    stores: Sequence[ServiceProcess]
    forward: ServiceProcess

    def usage(self) -> dict[str, Usage]:
        """Return what each part has taken so far, all stores as one."""
        stores = [usage_of(store.pid) for store in self.stores]
        cpu_s, resident = sum(one.cpu_s for one in stores), sum(one.resident_bytes for one in stores)
        return {
            "store": Usage(cpu_s, resident),
            "forward": usage_of(self.forward.pid),
            "cloud": usage_of(self.cloud.pid),
        }

    def check(self) -> None:
        """Raise what a service that has ended said last.

        Raises:
            RuntimeError: one has ended.
        """
        for service in (*self.stores, self.forward):
            if service.exit_status is not None:
                words = service.log[-2_000:]
                raise RuntimeError(f"{service.name} ended with status {service.exit_status}: {words}")


async def cost_of(devices: int, replicas: int, seconds: float, folder: Path) -> Cost:
    """Measure with so many simulated devices, which share one rate, and so many stores.

    Args:
        devices: how many are simulated.
        replicas: how many stores there are.
        seconds: for how long to measure.
        folder: an empty one. All that it holds at the end is best left until nothing is measured any more:
            to remove it keeps the file system busy for half a minute.

    Raises:
        NotReceipted: a face is missing at the end.
    """
    async with _site(folder, replicas) as site, asyncio.TaskGroup() as tasks:
        faces, real_faces = Ledger(), Ledger()
        names = [f"device-{number:04}" for number in range(devices)]
        fleet = [ThinDevice(name, faces) for name in names]
        camera = Device(REAL_DEVICE, ("local", site.local.url), real_faces)
        await _connect(fleet, site.cloud.port)
        running = tasks.create_task(camera.run())
        await camera.link.wait_up()
        publishing = [
            tasks.create_task(_publish(fleet, FACES_A_S)),
            tasks.create_task(_publish([camera], REAL_FACES_A_S)),
        ]
        # At its first face each device gets a folder, once in each store; later faces are what counts.
        await asyncio.sleep(max(WARM_UP_S, 2.0 * replicas * devices / FACES_A_S))
        cost = await _measure(site, faces, real_faces, seconds)
        _cancel(publishing)
        await _wait_for_receipts(site, faces, real_faces)
        running.cancel()
        for device in fleet:
            device.close()
    return cost


def allow_connections(count: int) -> None:
    """Let this process, and those that it starts, have as many open files as so many connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096, 2 * count)), hard))


@asynccontextmanager
async def _site(folder: Path, replicas: int) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        cloud, local = MosquittoServer(folder), MosquittoServer(folder)
        settings = {
            "FACEFERRY_DEVICE": REAL_DEVICE,
            "FACEFERRY_LOCAL_MQTT_URL": local.url,
            "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
            "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
            "FACEFERRY_STORE_URL": (folder / "faces").as_uri(),
        }
        stores = [ServiceProcess("store", folder, settings) for _ in range(replicas)]
        forward = ServiceProcess("forward", folder, settings)
        for broker in (cloud, local):
            stack.callback(broker.start().kill)
        for service in (*stores, forward):
            stack.callback(service.start().kill)
        await _links_up([*stores, forward])
        yield Site(cloud, local, stores, forward)


async def _links_up(services: Sequence[ServiceProcess]) -> None:
    for service in services:
        await eventually(_tells(service, 2), 30)


def _tells(service: ServiceProcess, links: int) -> Callable[[], bool]:
    return lambda: service.log.count("mqtt.link_up") >= links


async def _connect(devices: Sequence[ThinDevice], port: int) -> None:
    for start in range(0, len(devices), CONNECT_AT_ONCE):
        await asyncio.gather(*(each.connect(port) for each in devices[start : start + CONNECT_AT_ONCE]))


async def _publish(devices: Sequence[Device] | Sequence[ThinDevice], faces_a_s: float) -> None:
    """Publish faces at even distances, the devices in turn, until cancelled."""
    began_s = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(max(0.0, began_s + number / faces_a_s - time.monotonic()))
        devices[number % len(devices)].publish(number)


async def _measure(site: Site, faces: Ledger, real_faces: Ledger, seconds: float) -> Cost:
    psutil.cpu_percent()
    before, began_s = site.usage(), time.monotonic()
    count, real_count, receipts = faces.published, real_faces.published, faces.receipts
    await asyncio.sleep(seconds)
    after, ended_s = site.usage(), time.monotonic()
    busy = psutil.cpu_percent() / 100
    own = real_faces.published - real_count
    every = faces.published - count + own
    faces_a_receipt = (every - own) / max(1, faces.receipts - receipts)
    await asyncio.sleep(1.0)  # the last faces' receipts
    return Cost(
        {
            part: (after[part].cpu_s - before[part].cpu_s) * 1e3 / (own if part == "forward" else every)
            for part in before
        },
        {part: usage.resident_bytes / 1e6 for part, usage in after.items()},
        faces.took_ms(began_s, ended_s),
        faces_a_receipt,
        busy,
    )


async def _wait_for_receipts(site: Site, faces: Ledger, real_faces: Ledger) -> None:
    def missing() -> int:
        site.check()
        at_forward = real_faces.published - _stored(site.forward)
        return faces.waiting + max(real_faces.waiting, at_forward)

    with contextlib.suppress(TimeoutError):
        await eventually(lambda: missing() == 0, RECEIPT_S)
    if (count := missing()) > 0:
        raise NotReceipted(f"{count} of {faces.published + real_faces.published} faces")


def _stored(forward: ServiceProcess) -> int:
    return int(forward.metric("faceferry_forward_stored_total"))


def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
