"""What `faceferry doctor` says of the brokers in the cloud; a real one."""

import pytest

from services.commands import doctor
from services.up.brokers import free_port
from tests.support import MosquittoServer


async def finding(monkeypatch: pytest.MonkeyPatch, urls: str) -> doctor.Finding:
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", urls)
    return await doctor._carefully(doctor._cloud)


async def test_each_broker_of_the_list_is_looked_at(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await finding(monkeypatch, broker.url)
    assert found.is_fine
    assert found.text == f"127.0.0.1:{broker.port} lets us in (packets of up to 8,389 kB)"
    nobody = free_port()
    found = await finding(monkeypatch, f"{broker.url},mqtt://127.0.0.1:{nobody}")
    assert not found.is_fine
    assert not found.is_needed, "faces go by the other"
    assert f"127.0.0.1:{broker.port} lets us in" in found.text
    assert f"127.0.0.1:{nobody}: " in found.text


async def test_no_broker_at_all_is_to_be_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await finding(monkeypatch, f"mqtt://127.0.0.1:{free_port()}")
    assert not found.is_fine
    assert found.is_needed


async def test_a_list_that_cannot_be_meant_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await finding(monkeypatch, "mqtt://a,mqtt://a")
    assert "FACEFERRY_CLOUD_MQTT_URL: a:1883 stands there twice" in found.text
    assert (await finding(monkeypatch, "")).is_fine
