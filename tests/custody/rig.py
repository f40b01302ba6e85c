"""All of it on this machine: two brokers, our services, a bucket, and what lies between them."""

import asyncio
import functools
import os
import platform
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.custody import clock
from tests.custody.clock import Clock
from tests.custody.clouds import Clouds, Make, Server, strangers
from tests.custody.damage import Toll
from tests.custody.faces import DEVICE
from tests.custody.proxy import Proxy
from tests.custody.tap import UplinkTap
from tests.custody.ways import Ways
from tests.support import MosquittoServer, S3Server, ServiceProcess

BUCKET = "faces"
SPOOL = "spool"
JOURNAL = "journal.jsonl"
SPOOL_DISK_MIB = 64
STORE = "_store"
"""What the store calls itself to the cloud broker; no device can have such a name."""
SHIPPED_RULES = Path(__file__).parents[2] / "compose" / "cloud" / "broker" / "acl"
PASSWORD = "test-password"  # noqa: S105 - it opens a broker of the test's own
_RESTART_S = 0.3


class Part:
    """One of our services, started again when it fails, as its supervisor would.

    Attributes:
        process: the service.
        crashes: how often it ended without being killed, and not because its work was done.
    """

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self.crashes = 0
        self._is_wanted = False

    def start(self) -> None:
        """Start it, and have it kept running."""
        self._is_wanted = True
        self.process.start()

    def kill(self) -> None:
        """End it without a chance to save or say anything, and leave it so."""
        self._is_wanted = False
        self.process.kill()

    async def supervise(self) -> None:
        """Start it again whenever it has failed. Capture ends well when all its recordings are played."""
        while True:
            await asyncio.sleep(0.1)
            if self._is_wanted and self.process.exit_status:
                self.crashes += 1
                await asyncio.sleep(_RESTART_S)
                if self._is_wanted:
                    self.process.start()


@dataclass
class Rig:
    """What a run is played on.

    Attributes:
        folder: everything of the run.
        parts: all that can be killed and is at the edge or ours, by name: the broker there, `local`, which is
            not persistent, and our services.
        clouds: the brokers in the cloud, not persistent either.
        link: between forward and each of them, and
        inward: between them and store, where there are several.
        bucket_link: between store and its bucket.
        edge_clock: what the processes at the edge take for the time, and
        cloud_clock: what those in the cloud do.
        s3: the bucket's server, and
        keys: the file from which store has its keys.
        objects: the bucket's folder.
        tap: sees what is sent to the cloud.
        missing: what cannot be done on this machine, and why.
        standby: a second forward on the same spool, which a fault may start.
        device: what the edge is called just now.
        toll: what faults have put into the spool, and destroyed there.
        requeues: how often what was set aside was put back, and
        notes: what did not go as it should.
    """

    folder: Path
    parts: dict[str, Part | MosquittoServer]
    clouds: Clouds
    link: Ways
    inward: Ways
    bucket_link: Proxy
    edge_clock: Clock
    cloud_clock: Clock
    s3: S3Server
    keys: Path
    objects: Path
    tap: UplinkTap
    missing: dict[str, str]
    standby: Part
    device: str = DEVICE
    toll: Toll = field(default_factory=Toll)
    requeues: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def services(self) -> dict[str, Part]:
        """Our own processes, by name."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Part)}

    @property
    def local(self) -> MosquittoServer:
        """The broker at the edge."""
        broker = self.parts["local"]
        assert isinstance(broker, MosquittoServer)
        return broker

    @property
    def cloud(self) -> MosquittoServer:
        """The broker in the cloud, where there is one."""
        (broker,) = self.clouds.brokers
        assert isinstance(broker, MosquittoServer)
        return broker

    @property
    def spool(self) -> Path:
        """The folder of forward's spool, a small disk of its own where that can be made."""
        return self.folder / SPOOL

    @property
    def journal(self) -> Path:
        """Where capture notes the answers."""
        return self.folder / JOURNAL

    async def requeue(self) -> None:
        """Put back what was set aside, as an operator does whose device has its right name again."""
        command = [sys.executable, "-m", "services.cli", "spool", "requeue", str(self.spool)]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--device", DEVICE], capture_output=True, text=True, check=False
        )
        self.requeues += 1
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            self.notes.append(f"requeue ended with status {done.returncode}: {said[-1] if said else ''}")


@asynccontextmanager
async def rig(
    folder: Path,
    s3_program: str,
    cameras: str | None = None,
    keep: str = "every",
    make_clouds: Make | None = None,
) -> AsyncIterator[Rig]:
    """Start everything; stop everything, by process id, at the end.

    Args:
        folder: empty, for all files.
        s3_program: versitygw.
        cameras: what capture plays; without it there are neither capture nor detect.
        keep: which faces are wanted: `every` or `visits`.
        make_clouds: runs the brokers in the cloud; one Mosquitto by default.
    """
    async with AsyncExitStack() as stack:
        stack.callback(clock.tidy, clock.traces())
        edge_clock, cloud_clock = Clock(folder / "edge-clock"), Clock(folder / "cloud-clock")
        missing = {} if edge_clock.library else {"clock": "libfaketime is not installed"}
        if why := _mount(folder / SPOOL, stack):
            missing["disk"] = why
        local = MosquittoServer(folder, environment=edge_clock.environment)
        s3 = S3Server(s3_program, folder)
        for server in (local, s3):
            stack.callback(server.kill)
            server.start()
        s3.create_bucket(BUCKET)
        keys = folder / "aws-credentials"
        s3.write_keys(keys)
        tap = UplinkTap()
        make = (make_clouds or strangers(1))(folder, access_rules(folder), cloud_clock.environment)
        clouds = await stack.enter_async_context(make)
        missing |= clouds.missing
        link, inward = await _ways(stack, clouds.brokers, tap)
        bucket_link = await stack.enter_async_context(Proxy(s3.port))
        edge = {**edge_clock.environment, **_edge_settings(folder, local, link, keep)}
        cloud_side = _store_settings(inward or clouds.brokers, bucket_link, keys)
        services = {
            "store": {**cloud_clock.environment, **cloud_side},
            "forward": edge,
        }
        if cameras is not None:
            # Capture keeps the true time: `time.sleep` fails under libfaketime, and `subprocess` needs it.
            capture = {**_edge_settings(folder, local, link, keep), "FACEFERRY_CAMERAS": cameras}
            services |= {"detect": edge, "capture": capture}
        parts = {name: Part(ServiceProcess(name, folder, settings)) for name, settings in services.items()}
        standby = Part(ServiceProcess("forward", folder, edge))
        for part in (*parts.values(), standby):
            stack.callback(part.kill)
        for part in parts.values():
            part.start()
        all_parts: dict[str, Part | MosquittoServer] = {"local": local, **parts}
        made = Rig(
            folder,
            all_parts,
            clouds,
            link,
            inward,
            bucket_link,
            edge_clock,
            cloud_clock,
            s3,
            keys,
            s3.folder / BUCKET,
            tap,
            missing,
            standby,
        )
        async with _running(*(part.supervise for part in (*parts.values(), standby))):
            yield made


async def _ways(stack: AsyncExitStack, brokers: Sequence[Server], tap: UplinkTap) -> tuple[Ways, Ways]:
    """Put a proxy between forward and each broker; where there are several, between those and store, too."""
    outward = [Proxy(each.port, functools.partial(tap.look, at)) for at, each in enumerate(brokers)]
    inward = [Proxy(each.port) for each in brokers] if len(brokers) > 1 else []
    for proxy in (*outward, *inward):
        await stack.enter_async_context(proxy)
    return Ways(outward), Ways(inward)


def access_rules(folder: Path, more: str = "") -> str:
    """Return what makes a broker let devices write under their own names alone, by the rules that we ship.

    Whoever has no name may do everything, as far as the broker goes: tests look and send as nobody.

    Args:
        folder: for its files.
        more: rules behind those.
    """
    rules = folder / "acl"
    shipped = SHIPPED_RULES.read_text()
    rules.write_text(f"topic readwrite #\n\n{shipped}\nuser {STORE}\ntopic read test_topic\n\n{more}")
    passwords = folder / "passwords"
    passwords.touch()
    for user in (DEVICE, STORE):
        command = ["mosquitto_passwd", "-b", str(passwords), user, PASSWORD]
        subprocess.run(command, check=True, capture_output=True)
    # As root Mosquitto would become a user who cannot read a test's files.
    return f"user root\npassword_file {passwords}\nacl_file {rules}\n"


def _edge_settings(folder: Path, local: MosquittoServer, link: Ways, keep: str) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOG_FORMAT": "json",
        "FACEFERRY_KEEP": keep,
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": _urls(DEVICE, link),
        "FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD,
        "FACEFERRY_SPOOL_PATH": str(folder / SPOOL),
        "FACEFERRY_JOURNAL_PATH": str(folder / JOURNAL),
    }


def _store_settings(reached_at: Iterable[Proxy | Server], bucket_link: Proxy, keys: Path) -> dict[str, str]:
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(keys),
        "AWS_EC2_METADATA_DISABLED": "true",
        "FACEFERRY_LOG_FORMAT": "json",
        "FACEFERRY_CLOUD_MQTT_URL": _urls(STORE, reached_at),
        "FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD,
        "FACEFERRY_S3_ENDPOINT_URL": f"http://127.0.0.1:{bucket_link.port}",
        "FACEFERRY_S3_TIMEOUT_S": "3",
        "FACEFERRY_STORE_URL": f"s3://{BUCKET}",
    }


def _urls(user: str, reached_at: Iterable[Proxy | Server]) -> str:
    return ",".join(f"mqtt://{user}@127.0.0.1:{each.port}" for each in reached_at)


@asynccontextmanager
async def _running(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _mount(folder: Path, stack: AsyncExitStack) -> str | None:
    """Make a folder a small disk of its own; return why not, if it cannot be one."""
    folder.mkdir()
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "a small disk for the spool takes root on Linux"
    command = ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_DISK_MIB}m,mode=0700", "spool", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"no small disk for the spool can be mounted: {done.stderr.strip()[-200:]}"
    stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False, capture_output=True)
    return None
