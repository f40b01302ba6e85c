"""A cluster as the brokers in the cloud of a custody run; see `tests.custody.clouds`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.cluster.artemis import Node, installed, running
from tests.custody.clouds import Clouds, Make
from tests.custody.proxy import Proxy


def cluster(count: int = 3) -> Make:
    """Return what makes a cluster of so many nodes, each of which the others reach through a proxy."""

    @asynccontextmanager
    async def make(folder: Path, config: str, environment: Mapping[str, str]) -> AsyncIterator[Clouds]:
        del config, environment  # they are a Mosquitto's
        home = await asyncio.to_thread(installed)
        async with AsyncExitStack() as stack:
            nodes = [Node(folder, number) for number in range(count)]
            between = [await stack.enter_async_context(Proxy(node.core)) for node in nodes]
            for node, proxy in zip(nodes, between, strict=True):
                node.reached_at = proxy.port
            # In a thread, for it waits until the nodes have found each other, through those proxies.
            context = running(home, nodes)
            await asyncio.to_thread(context.__enter__)
            stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
            missing = {"rules": "the nodes let everybody write under any name"}
            yield Clouds(nodes, between, missing)

    return make
