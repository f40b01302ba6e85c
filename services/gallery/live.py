"""The pages with live pictures of cameras, with boxes around faces."""

from aiohttp import web

from services.common.runtime.metrics import Drops
from services.common.wire.topics import Source, is_name
from services.gallery.live_client import LiveClient, LiveUnavailable
from services.gallery.metrics import LIVE_FAILED
from services.gallery.pages import Pages
from services.gallery.site import Context

_failed = Drops(LIVE_FAILED, "gallery.live_failed")


class LivePages:
    """Answers with live pictures of cameras whose capture can be reached.

    Args:
        context: the state that all pages share.
        pages: renders the page.
        client: fetches pictures and outlines.
    """

    def __init__(self, context: Context, pages: Pages, client: LiveClient) -> None:
        self._context, self._pages, self._client = context, pages, client

    def add_to(self, app: web.Application) -> None:
        """Add the page, its picture and its boxes to an application."""
        app.router.add_get("/live/{device}/{camera}", self._page, name="live")
        app.router.add_get(
            "/live/{device}/{camera}/now.jpg", self._picture, name="live_picture", allow_head=False
        )
        app.router.add_get(
            "/live/{device}/{camera}/now.json", self._boxes, name="live_boxes", allow_head=False
        )

    async def _page(self, request: web.Request) -> web.Response:
        source = self._source(request)
        presence = self._context.presence
        return self._pages.html(
            "live.html",
            source=source,
            state=presence.cameras.get(source, "unknown"),
            reason=presence.reason(source),
        )

    async def _picture(self, request: web.Request) -> web.Response:
        try:
            jpeg = await self._client.picture(self._source(request))
        except LiveUnavailable as error:
            return _say(request, error)
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
        return web.Response(body=jpeg, content_type="image/jpeg", headers=headers)

    async def _boxes(self, request: web.Request) -> web.Response:
        try:
            outlines = await self._client.outlines(self._source(request))
        except LiveUnavailable as error:
            return _say(request, error)
        return web.json_response(outlines.body if outlines is not None else {})

    def _source(self, request: web.Request) -> Source:
        source = Source(request.match_info["device"], request.match_info["camera"])
        if not is_name(source.device) or not is_name(source.camera) or not self._client.knows(source):
            raise web.HTTPNotFound
        return source


def _say(request: web.Request, error: LiveUnavailable) -> web.Response:
    _failed.count(str(error).replace(" ", "_"), camera=request.path[:200])
    return web.Response(status=503, text=f"{error}\n")
