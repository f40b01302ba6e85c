"""What several tests of whole services stand in the place of."""

from collections.abc import AsyncIterator

import pytest

from services.common.mqtt import Broker, Link
from tests.support import MosquittoServer


@pytest.fixture
async def edge(broker: MosquittoServer) -> AsyncIterator[Link]:
    """A connection in the place of a device's forward, which hears of its receipts."""
    topics = ["faceferry/porch/stored"]
    async with Link("cloud", Broker(broker.url), identity="edge", subscriptions=topics) as link:
        await link.wait_up()
        yield link
