"""A bare image that a broker keeps for later subscribers, before a forward that restarts."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire.message import Message
from tests.storing import jpeg
from tests.support import MosquittoServer, ServiceProcess, eventually


@pytest.fixture
def forward(local: MosquittoServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    with ExitStack() as stack:
        cloud = MosquittoServer(tmp_path).start()
        stack.callback(cloud.kill)
        settings = {
            "FACEFERRY_DEVICE": "porch",
            "FACEFERRY_LOCAL_MQTT_URL": local.url,
            "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
            "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
        }
        process = ServiceProcess("forward", tmp_path, settings).start()
        stack.callback(process.kill)
        yield process


def picture(number: int) -> Message:
    return Message(topic="test_topic", payload=jpeg(number), qos=1, retain=True)


async def test_a_picture_that_the_broker_keeps_is_one_face_however_often_forward_connects(
    local: MosquittoServer, forward: ServiceProcess
) -> None:
    await eventually(lambda: forward.log.count("mqtt.link_up") == 2, 30.0)
    async with Link("local", Broker(local.url), identity="camera", subscriptions=[]) as camera:
        await camera.wait_up()
        camera.publish(picture(0))
        await eventually(lambda: forward.metric("faceferry_forward_taken_total") == 1)
        for starts in (1, 2):
            forward.kill()
            forward.start()
            await eventually(lambda: forward.log.count("retained") == starts, 30.0)  # noqa: B023
            assert forward.metric("faceferry_forward_dropped_total") == 1
            assert forward.metric("faceferry_forward_taken_total") == 0
        camera.publish(picture(1))
        await eventually(lambda: forward.metric("faceferry_forward_taken_total") == 1)
