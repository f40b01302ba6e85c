"""A server that has a bucket's rules and nothing else, for what no real one here can be made to say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.up.brokers import free_port

NO_RULES = "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>"
LOCKED = (
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>COMPLIANCE</Mode><Days>{}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
NO_LOCK = "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>"


class BucketRules:
    """What the server says.

    Attributes:
        rules: as XML; empty where there are none.
        written: each set of rules that was put.
        forgets: a piece of the rules that it leaves out of what it is given.
        is_versioned: whether the bucket keeps versions.
        locked_days: for how long Object Lock keeps them.
        refuses: an error code to answer every question for rules with.
    """

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.rules = ""
        self.written: list[str] = []
        self.forgets = ""
        self.is_versioned = False
        self.locked_days = 0
        self.refuses = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if "versioning" in request.query:
            status = "<Status>Enabled</Status>" if self.is_versioned else ""
            return _xml(f"<VersioningConfiguration>{status}</VersioningConfiguration>")
        if "object-lock" in request.query:
            return _xml(LOCKED.format(self.locked_days)) if self.locked_days else _xml(NO_LOCK, 404)
        if self.refuses:
            status_code = 501 if self.refuses == "NotImplemented" else 403
            return _xml(f"<Error><Code>{self.refuses}</Code></Error>", status_code)
        if request.method == "PUT":
            self.rules = (await request.text()).replace(self.forgets, "")
            self.written.append(self.rules)
        if request.method == "DELETE":
            self.rules = ""
            return web.Response(status=204)
        return _xml(self.rules) if self.rules else _xml(NO_RULES, 404)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BucketRules"]:
        """Listen for as long as the context lasts."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        port = int(self.url.rpartition(":")[2])
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield self
        finally:
            await runner.cleanup()


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/xml")
