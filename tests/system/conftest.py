"""What several tests of whole services stand in the place of."""

from collections.abc import AsyncIterator
from pathlib import Path

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


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is: in a folder, and in a bucket without life-cycle rules."""
    if request.param == "folder":
        return (tmp_path / "faces").as_uri()
    request.getfixturevalue("bucket")
    return "s3://faces/home"
