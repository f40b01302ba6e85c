"""What many devices that send faces to one store cost.

All but one are simulated: each has a connection of its own, publishes as forward does, and receives its own
receipts. The last is a real forward behind a broker of its own, fed as detect feeds it.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.simulated import Device, Ledger
from tests.rigs.pipeline import Usage, usage_of
from tests.support import MosquittoServer, ServiceProcess, eventually

REAL_DEVICE = "bench"
WARM_UP_S = 4.0
CONNECT_AT_ONCE = 20
RECEIPT_S = 20.0
"""A face without its receipt for so long has none."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The result of one measurement.

    Attributes:
        cpu_ms: processor milliseconds a face by part: `store` and `cloud` over all faces, `forward` over its
            own.
        resident_mb: by part.
        receipt_ms: for each face of a simulated device, from its publication to its receipt.
        faces_a_receipt: of the simulated devices.
        busy: share of this machine's processors that was not idle, other programs included.
    """

    cpu_ms: dict[str, float]
    resident_mb: dict[str, float]
    receipt_ms: list[float]
    faces_a_receipt: float
    busy: float


@dataclass(frozen=True, slots=True)
class _Site:
    """Both brokers, the store's replicas and the real forward, each a process that runs."""

    cloud: MosquittoServer
    local: MosquittoServer
    stores: Sequence[ServiceProcess]
    forward: ServiceProcess

    def usage(self) -> dict[str, Usage]:
        """Return the resources that each part has used so far, all stores as one."""
        stores = [usage_of(store.pid) for store in self.stores]
        store = Usage(sum(one.cpu_s for one in stores), sum(one.resident_bytes for one in stores))
        return {"store": store, "forward": usage_of(self.forward.pid), "cloud": usage_of(self.cloud.pid)}


async def cost_of(devices: int, replicas: int, faces_a_s: float, seconds: float, folder: Path) -> Cost:
    """Measure with so many simulated devices, which share one rate, and so many stores.

    Args:
        devices: how many are simulated.
        replicas: how many stores there are.
        faces_a_s: of all simulated devices together; the real forward has a ninth of that besides.
        seconds: for how long to measure.
        folder: an empty one. Delete it only when all measurements are done: deleting keeps the file system
            busy for half a minute.

    Raises:
        TimeoutError: a face has no receipt at the end.
    """
    async with _site(folder, replicas) as site, asyncio.TaskGroup() as tasks:
        faces, real_faces = Ledger(), Ledger()
        fleet = [Device(f"device-{number:04}", faces) for number in range(devices)]
        camera = Device(REAL_DEVICE, real_faces, "taken")
        for some in (fleet[start : start + CONNECT_AT_ONCE] for start in range(0, devices, CONNECT_AT_ONCE)):
            await asyncio.gather(*(each.connect(site.cloud.port) for each in some))
        await camera.connect(site.local.port)
        publishing = [
            tasks.create_task(_publish(fleet, faces_a_s)),
            tasks.create_task(_publish([camera], faces_a_s / 9)),
        ]
        # At its first face each device gets a folder, once in each store; later faces are what counts.
        await asyncio.sleep(max(WARM_UP_S, 2.0 * replicas * devices / faces_a_s))
        cost = await _measure(site, faces, real_faces, seconds)
        for task in publishing:
            task.cancel()
        await _wait_for_receipts(site, faces, real_faces)
        for device in (*fleet, camera):
            device.close()
    return cost


@asynccontextmanager
async def _site(folder: Path, replicas: int) -> AsyncIterator[_Site]:
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
        for service in (*stores, forward):
            await eventually(lambda service=service: service.log.count("mqtt.link_up") >= 2, 30)  # type: ignore[misc]
        yield _Site(cloud, local, stores, forward)


async def _publish(devices: Sequence[Device], faces_a_s: float) -> None:
    """Publish faces at even distances, the devices in turn, until cancelled."""
    began_s = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(max(0.0, began_s + number / faces_a_s - time.monotonic()))
        devices[number % len(devices)].publish(number)


async def _measure(site: _Site, faces: Ledger, real_faces: Ledger, seconds: float) -> Cost:
    psutil.cpu_percent()
    before, began_s = site.usage(), time.monotonic()
    count, real_count, receipts = faces.published, real_faces.published, faces.receipts
    await asyncio.sleep(seconds)
    after, ended_s = site.usage(), time.monotonic()
    busy = psutil.cpu_percent() / 100
    own, simulated = real_faces.published - real_count, faces.published - count
    faces_a_receipt = simulated / max(1, faces.receipts - receipts)
    await asyncio.sleep(1.0)  # the last faces' receipts
    counts = {"store": own + simulated, "cloud": own + simulated, "forward": own}
    return Cost(
        {part: (after[part].cpu_s - before[part].cpu_s) * 1e3 / counts[part] for part in before},
        {part: usage.resident_bytes / 1e6 for part, usage in after.items()},
        faces.took_ms(began_s, ended_s),
        faces_a_receipt,
        busy,
    )


async def _wait_for_receipts(site: _Site, faces: Ledger, real_faces: Ledger) -> None:
    def missing() -> int:
        stored = int(site.forward.metric("faceferry_forward_stored_total"))
        return faces.waiting + max(real_faces.waiting, real_faces.published - stored)

    with contextlib.suppress(TimeoutError):
        await eventually(lambda: missing() == 0, RECEIPT_S)
    if (count := missing()) > 0:
        raise TimeoutError(f"{count} of {faces.published + real_faces.published} faces have no receipt")
