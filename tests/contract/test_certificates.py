"""Certificates as `faceferry pki` makes them, at a real broker that asks for them."""

import asyncio
import contextlib
import os
import signal
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from services.common.mqtt import Broker, Link, credentials
from services.pki import certificates
from services.pki.certificates import pair
from services.pki.files import Owner
from services.pki.folder import PkiFolder
from tests.support import MosquittoServer, eventually

SECONDS_MORE = timedelta(seconds=2)
EXPIRY = "faceferry_certificate_expiry_timestamp_seconds"


class Cloud:
    """An authority, and a broker that takes its certificates and heeds its list."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.now = datetime.now(UTC)
        self.pki = PkiFolder(folder / "secrets", Owner(os.getuid(), os.getgid()))
        self.pki.init(["cloud.example.org"], self.now)
        files = {"cafile": "ca.crt", "certfile": "server.crt", "keyfile": "server.key", "crlfile": "crl.pem"}
        lines = [f"{option} {self.pki.path / name}" for option, name in files.items()]
        lines += ["require_certificate true", "use_identity_as_username true"]
        lines += ["user root"] if os.geteuid() == 0 else []  # else it may not read the files
        self.broker = MosquittoServer(folder, "\n".join(lines) + "\n")
        self.broker.start()

    def restart(self) -> None:
        """Have the broker read its files again, and end its connections."""
        self.broker.kill()
        self.broker.start()

    def device(self, bundle: Path, name: str = "device") -> Broker:
        """The way to the broker of who has unpacked this bundle."""
        place = self._folder / name
        with tarfile.open(bundle) as files:
            files.extractall(place, filter="data")
        return self._way(place / "ca.crt", place / "device.crt", place / "device.key")

    def service(self, stem: str) -> Broker:
        """The way to the broker of a service beside it."""
        return self._way(*(self.pki.path / name for name in ("ca.crt", f"{stem}.crt", f"{stem}.key")))

    def _way(self, ca_file: Path, cert_file: Path, key_file: Path) -> Broker:
        url = f"mqtts://127.0.0.1:{self.broker.port}"
        return Broker(url, ca_file=ca_file, cert_file=cert_file, key_file=key_file)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.broker.kill()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


async def refusal(way: Broker) -> str:
    """Return why a broker refuses a connection; empty if it accepts it."""
    link = Link("cloud", way, identity="who")
    async with link:
        await eventually(lambda: link.is_up or "no connection was tried" not in str(link.why_not_ready()))
        return "" if link.is_up else str(link.why_not_ready())


async def test_an_older_certificate_is_barred_too_once_its_device_is_revoked(cloud: Cloud) -> None:
    older = cloud.device(cloud.pki.add_device("porch", cloud.now), "older")
    newer = cloud.device(cloud.pki.renew("porch", cloud.now), "newer")
    other = cloud.device(cloud.pki.add_device("yard", cloud.now), "other")
    assert [await refusal(way) for way in (older, newer, other)] == ["", "", ""]
    cloud.pki.revoke("porch", cloud.now)
    cloud.restart()
    assert "revoked" in await refusal(older)
    assert "revoked" in await refusal(newer)
    assert await refusal(other) == ""
    assert await refusal(cloud.device(cloud.pki.add_device("porch", cloud.now), "newest")) == ""


@pytest.mark.parametrize("stem", ["store", "gallery"])
async def test_a_service_is_barred_once_it_is_revoked_until_it_has_a_new_certificate(
    cloud: Cloud, stem: str
) -> None:
    assert await refusal(cloud.service(stem)) == ""
    cloud.pki.revoke(f"_{stem}", cloud.now)
    cloud.restart()
    assert "revoked" in await refusal(cloud.service(stem))
    cloud.pki.renew(f"_{stem}", cloud.now)
    assert await refusal(cloud.service(stem)) == ""


async def test_one_certificate_is_revoked_by_its_number_and_the_other_goes_on(cloud: Cloud) -> None:
    older = cloud.device(cloud.pki.add_device("porch", cloud.now), "older")
    (first,) = (each for each in cloud.pki.issued() if each.name == "porch")
    newer = cloud.device(cloud.pki.renew("porch", cloud.now), "newer")
    cloud.pki.revoke("porch", cloud.now, first.certificate.serial_number)
    cloud.restart()
    assert "revoked" in await refusal(older)
    assert await refusal(newer) == ""


async def test_a_broker_reads_the_list_again_when_told_to_and_ends_no_connection_for_it(cloud: Cloud) -> None:
    """As docs/install.md says of SIGHUP, and why it says to restart the broker."""
    way = cloud.device(cloud.pki.add_device("porch", cloud.now))
    async with Link("cloud", way, identity="standing") as standing:
        await standing.wait_up()
        cloud.pki.revoke("porch", cloud.now)
        os.kill(cloud.broker.pid, signal.SIGHUP)
        async with asyncio.timeout(20):
            while not (why := await refusal(way)):
                pass
        assert "revoked" in why
        assert standing.is_up


@contextlib.asynccontextmanager
async def link_that_returns(cloud: Cloud, way: Broker) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A link that is up; what is yielded restarts the broker, and waits until the link is up again."""
    falls: list[bool] = []
    async with Link("cloud", way, identity="porch", on_down=lambda: falls.append(True)) as link:
        await link.wait_up()

        async def restart() -> None:
            before = len(falls)
            cloud.restart()
            await eventually(lambda: len(falls) > before and link.is_up, 20)

        yield restart


async def test_a_link_takes_up_a_renewed_certificate_without_a_restart(cloud: Cloud) -> None:
    way = cloud.device(cloud.pki.add_device("porch", cloud.now))
    (first,) = (each for each in cloud.pki.issued() if each.name == "porch")
    async with link_that_returns(cloud, way) as restart:
        cloud.device(cloud.pki.renew("porch", cloud.now))
        cloud.pki.revoke("porch", cloud.now, first.certificate.serial_number)
        await restart()


async def test_half_of_a_renewed_pair_ends_no_link(cloud: Cloud, logged: list[Any]) -> None:
    way = cloud.device(cloud.pki.add_device("porch", cloud.now))
    assert way.key_file is not None
    assert way.cert_file is not None
    new = pair("device", certificates.issue_client(cloud.pki._authority(), "porch", cloud.now))
    async with link_that_returns(cloud, way) as restart:
        for half in (new["device.key"], new["device.key"][:100], b""):
            way.key_file.write_bytes(half)
            await restart()
        way.key_file.unlink()
        await restart()
        assert "mqtt.certificates_unusable" in events(logged)
        assert "mqtt.certificates_changed" not in events(logged)
        way.key_file.write_bytes(new["device.key"])
        way.cert_file.write_bytes(new["device.crt"])
        await restart()
        assert "mqtt.certificates_changed" in events(logged)


def events(logged: list[Any]) -> list[str]:
    return [line["event"] for line in logged]


def expiry_s(certificate: str) -> float | None:
    found = [
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == EXPIRY
        and (sample.labels["link"], sample.labels["certificate"]) == ("measured", certificate)
    ]
    return found[-1] if found else None


async def test_a_link_says_when_each_certificate_expires_also_of_renewed_ones(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOOK_EVERY_S", 0.05)
    way = cloud.service("store")
    ends_s = {each.name: each.until.timestamp() for each in cloud.pki.issued()}
    async with Link("measured", way, identity="store") as link:
        await link.wait_up()
        assert expiry_s("own") == ends_s["_store"]
        assert expiry_s("authority") == ends_s["_authority"]
        assert expiry_s("broker") == ends_s["_server"]
        later = cloud.now + timedelta(hours=1)
        cloud.pki.renew("_store", later)
        cloud.pki.renew("_server", later)
        await eventually(lambda: expiry_s("own") == ends_s["_store"] + 3600)
        assert link.is_up
        assert expiry_s("broker") == ends_s["_server"]
        cloud.restart()
        await eventually(lambda: expiry_s("broker") == ends_s["_server"] + 3600, 20)


async def test_an_end_that_is_near_is_said_at_once_and_for_each_certificate(
    tmp_path: Path, cloud: Cloud, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOOK_EVERY_S", 0.05)
    soon = certificates.issue_client(
        cloud.pki._authority(), "porch", cloud.now, timedelta(days=10, minutes=30)
    )
    for name, content in pair("device", soon).items():
        (tmp_path / name).write_bytes(content)
    way = cloud._way(cloud.pki.path / "ca.crt", tmp_path / "device.crt", tmp_path / "device.key")
    async with Link("cloud", way, identity="porch") as link:
        await link.wait_up()
        await asyncio.sleep(0.3)
    said = [line for line in logged if line["event"] == "mqtt.certificate_expires"]
    assert [(line["certificate"], line["days_left"], line["log_level"]) for line in said] == [
        ("own", 10, "warning")
    ]
    late = Link("cloud", way, identity="porch")
    late._pool.current.credentials.look((cloud.now + timedelta(days=11)).timestamp())
    assert [line["log_level"] for line in logged if line["event"] == "mqtt.certificate_expired"] == ["error"]
