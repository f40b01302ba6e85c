"""HTTP servers: how they listen, answers in gzip, and every service's `/healthz`, `/readyz`, `/metrics`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from services.common.errors import SetupError
from services.common.runtime.http_connections import MOST_CONNECTIONS, HttpConnections

GOODBYE_S = 1.0
"""For so long may answers that are under way go on when the server is told to stop."""


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, setting: str, most_connections: int = MOST_CONNECTIONS
) -> AsyncIterator[int]:
    """Serve an application for as long as the context lasts; yield the port.

    Args:
        app: what answers.
        host: the address to listen on.
        port: the port; 0 for any free one.
        setting: the variables that name both, for the error.
        most_connections: connections at a time.

    Raises:
        SetupError: the port is taken, or the address is not this machine's.
    """
    callers = HttpConnections(most_connections)
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
            async with callers.watched():
                yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


LEAST_BYTES = 1_024
"""Less than this fits into one packet anyway."""


def compressed(request: web.Request, response: web.Response) -> web.Response:
    """Return an answer that will be sent as gzip, if it is wanted so and worth it."""
    response.headers["Vary"] = ", ".join([*response.headers.getall("Vary", []), "Accept-Encoding"])
    if (
        takes_gzip(request.headers.get("Accept-Encoding", ""))
        and (response.content_length or 0) >= LEAST_BYTES
    ):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def takes_gzip(accepted: str) -> bool:
    """Say whether an `Accept-Encoding` header names gzip, and not as what is unwanted (RFC 9110, 12.5.3)."""
    for each in accepted.lower().replace(" ", "").split(","):
        name, _, weight = each.partition(";q=")
        if name == "gzip":
            return not weight or weight.strip("0.") != ""
    return False


Check = Callable[[], str | None]
"""Returns nothing while a dependency is fine, else why it is not."""
OPENMETRICS = "application/openmetrics-text"

log = structlog.get_logger()


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    checks: Mapping[str, Check],
    routes: Iterable[web.RouteDef] = (),
    notes: Mapping[str, Check] = MappingProxyType({}),
) -> AsyncIterator[None]:
    """Answer `/healthz` (is the loop alive), `/readyz` (are the dependencies) and `/metrics`.

    Args:
        host: the address to listen on.
        port: the port; 0 for any free one, which the log tells.
        checks: each dependency by name.
        routes: what the service answers besides.
        notes: what `/readyz` tells besides, by name, and does not depend on.

    Raises:
        SetupError: nobody can listen there.
    """
    app = web.Application()
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz(checks, notes))
    app.router.add_get("/metrics", _metrics)
    app.router.add_routes(routes)
    async with listening(app, host, port, "FACEFERRY_HTTP_HOST, FACEFERRY_HTTP_PORT") as actual_port:
        log.info("health.listening", host=host, port=actual_port)
        yield


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readyz(
    checks: Mapping[str, Check], notes: Mapping[str, Check]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def readyz(_request: web.Request) -> web.Response:
        problems = {name: check() for name, check in checks.items()}
        is_ready = not any(problems.values())
        body = {"ready": is_ready, "checks": {name: why or "ok" for name, why in problems.items()}}
        if notes:
            body["notes"] = {name: note() or "ok" for name, note in notes.items()}
        return web.json_response(body, status=200 if is_ready else 503)

    return readyz


async def _metrics(request: web.Request) -> web.Response:
    if _takes_openmetrics(request.headers.get("Accept", "")):
        content_type = openmetrics.CONTENT_TYPE_LATEST
        body = openmetrics.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
    else:
        content_type, body = CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
    answer = web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})
    return compressed(request, answer)


def _takes_openmetrics(accept: str) -> bool:
    """Say whether an `Accept` header names OpenMetrics, in whichever version: 1.0 is read by all."""
    # prometheus_client has this too, and fails where a version is no number.
    return any(each.partition(";")[0].strip() == OPENMETRICS for each in accept.lower().split(","))
