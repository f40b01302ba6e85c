"""A store that is subscribed and deaf notices it by a knock of its own; see `services.store.knocking`."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire.faces import encode_face
from services.store.knocking import SURE_AFTER, TOPIC
from tests.custody.rig import PASSWORD, STORE, access_rules
from tests.false_broker import false_broker
from tests.storing import StoreProcess, face, images_in
from tests.support import MosquittoServer, eventually, running_broker

QUIET_S = "0.5"


def store(folder: Path, url: str) -> StoreProcess:
    return StoreProcess(
        url,
        (folder / "faces").as_uri(),
        folder / "log",
        FACEFERRY_STORE_KNOCK_S=QUIET_S,
        FACEFERRY_LOG_FORMAT="json",
        FACEFERRY_CLOUD_MQTT_PASSWORD=PASSWORD,
    )


def deaf_rules(folder: Path) -> tuple[Path, str]:
    """Rules by which this broker grants each subscription and then hands nothing over."""
    rules = folder / "deaf"
    rules.write_text("topic write #\n")
    return rules, f"user root\nacl_file {rules}\n"


async def test_one_that_is_deaf_subscribes_anew_until_it_hears(tmp_path: Path) -> None:
    rules, config = deaf_rules(tmp_path)
    with running_broker(tmp_path, config) as broker, store(tmp_path, broker.url) as process:
        await eventually(lambda: "store.deaf" in process.output)
        await eventually(lambda: "nothing comes by it" in process.output)
        await eventually(lambda: process.metric("faceferry_store_deaf_total") >= 2)
        rules.write_text("topic readwrite #\n")
        os.kill(broker.pid, signal.SIGHUP)
        async with Link("t", Broker(broker.url), identity="t") as link:
            await link.wait_up()
            while not images_in(tmp_path / "faces"):
                link.publish(encode_face(face()))
                await asyncio.sleep(0.1)
        renewals = process.metric("faceferry_store_deaf_total")
        await knocks_are_heard(broker)
        assert process.metric("faceferry_store_deaf_total") == renewals


async def test_by_the_rules_that_we_ship_it_hears_its_knocks_and_stores_none(tmp_path: Path) -> None:
    with (
        running_broker(tmp_path, access_rules(tmp_path)) as broker,
        store(tmp_path, broker.url.replace("//", f"//{STORE}@")) as process,
    ):
        await process.until_ready()
        await knocks_are_heard(broker)
        for counted in ("deaf", "refused", "dropped"):
            assert process.metric(f"faceferry_store_{counted}_total") == 0
        assert not images_in(tmp_path / "faces")


async def knocks_are_heard(broker: MosquittoServer, count: int = 8) -> None:
    """Wait until so many have come: more than a deaf store is given."""
    async with Link("t", Broker(broker.url), identity="t", subscriptions=[TOPIC]) as link:
        for _ in range(count):
            (await anext(link)).acknowledge()


@pytest.mark.parametrize("answer", [0x87, b""], ids=["refuses them", "ends the connection for them"])
async def test_a_broker_that_minds_knocks_gets_no_more_of_them(tmp_path: Path, answer: int | bytes) -> None:
    async with false_broker(answer=lambda _message, _size: answer) as false:
        with store(tmp_path, false.url) as process:
            await eventually(lambda: "store.knocks_not" in process.output)
            await process.until_ready()
            knocks, connects = len(false.published), len(false.connects)
            assert knocks == (SURE_AFTER if isinstance(answer, bytes) else 1)
            await asyncio.sleep(2.0)  # four knocks' time
            assert (len(false.published), len(false.connects)) == (knocks, connects)
            assert process.metric("faceferry_store_deaf_total") == 0
