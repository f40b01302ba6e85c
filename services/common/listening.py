import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.common.callers import MOST_CALLERS, Callers
from services.common.errors import SetupError

GOODBYE_S = 1.0
"""For so long may answers that are under way go on when the server is told to stop."""


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, setting: str, most_callers: int = MOST_CALLERS
) -> AsyncIterator[int]:
    """Serve an application for as long as the context lasts; yield the port.

    Args:
        app: what answers.
        host: the address to listen on.
        port: the port; 0 for any free one.
        setting: the variables that name both, for the error.
        most_callers: connections at a time.

    Raises:
        SetupError: the port is taken, or the address is not this machine's.
    """
    callers = Callers(most_callers)
    app.middlewares.insert(0, callers.middleware)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GOODBYE_S)
    await runner.setup()
    answer = runner.server
    assert answer is not None
    loop = asyncio.get_running_loop()
    try:
        try:
            server = await loop.create_server(lambda: callers.call(answer()), host, port)
        except OSError as error:
            raise SetupError(f"cannot listen on {host}:{port} ({setting}): {error}") from error
        try:
            async with callers.minded():
                yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()
