"""All of it on this machine: two brokers, our services, a bucket, and what lies between them."""

import asyncio
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.custody.damage import Toll
from tests.custody.faces import DEVICE
from tests.custody.proxy import Proxy
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
_ID = re.compile(rb"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{32}")
_ID_BYTES = 56


class Clock:
    """The wall clock of some child processes, set by libfaketime while they run.

    Their monotonic clocks go on as they are, like a host's when somebody sets its date.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.library = _find_libfaketime()
        self.set_days(0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see this clock."""
        if self.library is None:
            return {}
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            # Without it a wait on a condition, such as that for the interpreter's lock, takes milliseconds.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def set_days(self, days: int) -> None:
        """Step the clock so many days away from the true time; replaced whole, for it may be read now."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.replace(self._path)


class UplinkTap:
    """Counts how often each face is sent to the cloud, from the bytes on the way."""

    def __init__(self) -> None:
        self.sent: Counter[bytes] = Counter()
        self._tail = b""

    def __call__(self, data: bytes) -> None:
        """Look at the next bytes. An id may lie across two pieces."""
        text = self._tail + data
        end = 0
        for found in _ID.finditer(text):
            self.sent[found[0]] += 1
            end = found.end()
        self._tail = text[max(end, len(text) - _ID_BYTES + 1) :]


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
        parts: all that can be killed, by name: the brokers `local` and `cloud`, neither persistent, and our
            services.
        link: between forward and the cloud broker.
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
    link: Proxy
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
        return self._broker("local")

    @property
    def cloud(self) -> MosquittoServer:
        """The broker in the cloud."""
        return self._broker("cloud")

    def _broker(self, name: str) -> MosquittoServer:
        broker = self.parts[name]
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
    folder: Path, s3_program: str, cameras: str | None = None, keep: str = "every"
) -> AsyncIterator[Rig]:
    """Start everything; stop everything, by process id, at the end.

    Args:
        folder: empty, for all files.
        s3_program: versitygw.
        cameras: what capture plays; without it there are neither capture nor detect.
        keep: which faces are wanted: `every` or `visits`.
    """
    async with AsyncExitStack() as stack:
        stack.callback(_tidy_after_libfaketime, _traces_of_libfaketime())
        edge_clock, cloud_clock = Clock(folder / "edge-clock"), Clock(folder / "cloud-clock")
        missing = {} if edge_clock.library else {"clock": "libfaketime is not installed"}
        if why := _mount(folder / SPOOL, stack):
            missing["disk"] = why
        local = MosquittoServer(folder, environment=edge_clock.environment)
        cloud = MosquittoServer(folder, access_rules(folder), cloud_clock.environment)
        s3 = S3Server(s3_program, folder)
        for server in (local, cloud, s3):
            stack.callback(server.kill)
            server.start()
        s3.create_bucket(BUCKET)
        keys = folder / "aws-credentials"
        s3.write_keys(keys)
        tap = UplinkTap()
        link = await stack.enter_async_context(Proxy(cloud.port, tap))
        bucket_link = await stack.enter_async_context(Proxy(s3.port))
        edge = {**edge_clock.environment, **_edge_settings(folder, local, link, keep)}
        services = {
            "store": {**cloud_clock.environment, **_store_settings(cloud, bucket_link, keys)},
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
        all_parts: dict[str, Part | MosquittoServer] = {"local": local, "cloud": cloud, **parts}
        made = Rig(
            folder,
            all_parts,
            link,
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


def _edge_settings(folder: Path, local: MosquittoServer, link: Proxy, keep: str) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOG_FORMAT": "json",
        "FACEFERRY_KEEP": keep,
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": f"mqtt://{DEVICE}@127.0.0.1:{link.port}",
        "FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD,
        "FACEFERRY_SPOOL_PATH": str(folder / SPOOL),
        "FACEFERRY_JOURNAL_PATH": str(folder / JOURNAL),
    }


def _store_settings(cloud: MosquittoServer, bucket_link: Proxy, keys: Path) -> dict[str, str]:
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(keys),
        "AWS_EC2_METADATA_DISABLED": "true",
        "FACEFERRY_LOG_FORMAT": "json",
        "FACEFERRY_CLOUD_MQTT_URL": f"mqtt://{STORE}@127.0.0.1:{cloud.port}",
        "FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD,
        "FACEFERRY_S3_ENDPOINT_URL": f"http://127.0.0.1:{bucket_link.port}",
        "FACEFERRY_S3_TIMEOUT_S": "3",
        "FACEFERRY_STORE_URL": f"s3://{BUCKET}",
    }


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


def _find_libfaketime() -> Path | None:
    found = [
        *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
        Path("/usr/lib/faketime/libfaketime.so.1"),
    ]
    return next((path for path in found if path.exists()), None)


def _tidy_after_libfaketime(before: set[Path]) -> None:
    """Remove what killed processes could not: their shared memory."""
    for path in _traces_of_libfaketime() - before:
        pid = path.name.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


def _traces_of_libfaketime() -> set[Path]:
    return set(Path("/dev/shm").glob("*faketime_*_*"))  # noqa: S108 - it is libfaketime's choice
