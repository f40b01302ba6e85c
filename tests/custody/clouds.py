"""The brokers in the cloud that a run is played with: one, several strangers, or the nodes of a cluster."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from tests.custody.proxy import Proxy
from tests.support import MosquittoServer


class Server(Protocol):
    """A broker that can be killed and started again on the same port, and whose process can be stopped."""

    port: int

    @property
    def pid(self) -> int: ...

    def start(self) -> Self: ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Clouds:
    """Brokers that run.

    Attributes:
        brokers: one at least.
        between: where the others reach each node of a cluster; none where they are strangers.
        missing: what cannot be done with them, and why; see `Rig.missing`.
    """

    brokers: Sequence[Server]
    between: Sequence[Proxy] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


Make = Callable[[Path, str, Mapping[str, str]], AbstractAsyncContextManager[Clouds]]
"""Runs them, in a folder, with these lines in their configuration and this environment."""


def strangers(count: int) -> Make:
    """Return what makes so many Mosquittos that know nothing of each other."""

    @asynccontextmanager
    async def make(folder: Path, config: str, environment: Mapping[str, str]) -> AsyncIterator[Clouds]:
        with ExitStack() as stack:
            brokers = [MosquittoServer(folder, config, environment) for _ in range(count)]
            for each in brokers:
                stack.callback(each.kill)
                each.start()
            yield Clouds(brokers)

    return make
