from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.common.errors import SetupError

GOODBYE_S = 1.0
"""For so long may answers that are under way go on when the server is told to stop."""


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, setting: str) -> AsyncIterator[int]:
    """Serve an application for as long as the context lasts; yield the port.

    Args:
        app: what answers.
        host: the address to listen on.
        port: the port; 0 for any free one.
        setting: the variables that name both, for the error.

    Raises:
        SetupError: the port is taken, or the address is not this machine's.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GOODBYE_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SetupError(f"cannot listen on {host}:{port} ({setting}): {error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
