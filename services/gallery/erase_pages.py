"""The pages on which faces and visits are erased."""

from aiohttp import web

from services.common.erasure.entries import BrokenLog
from services.common.erasure.selection import Selection
from services.common.runtime.metrics import Drops
from services.common.storage.keys import FaceKey
from services.gallery.erasing import Erasing, selection_of
from services.gallery.metrics import REFUSED
from services.gallery.pages import Pages, key_in
from services.gallery.site import Context

_drops = Drops(REFUSED, "gallery.request_refused")


class ErasePages:
    """Asks for the token for erasing, and orders the erasure.

    Args:
        context: the state that all pages share.
        erasing: takes the order.
        pages: renders the pages.
    """

    def __init__(self, context: Context, erasing: Erasing, pages: Pages) -> None:
        self._context = context
        self._erasing = erasing
        self._pages = pages

    def add_to(self, app: web.Application) -> None:
        """Add the addresses to an application."""
        path = "/erase/{what:face|visit}/{key:.+}"
        app.router.add_get(path, self._ask, name="erase", allow_head=False)
        app.router.add_post(path, self._erase)

    async def _ask(self, request: web.Request) -> web.Response:
        return await self._page(request)

    async def _page(self, request: web.Request, *, was_wrong: bool = False) -> web.Response:
        key = key_in(request)
        selection = await self._chosen(request, key)
        return self._pages.html(
            "erase.html",
            403 if was_wrong else 200,
            face=key,
            count=await self._erasing.count(selection),
            is_visit=selection.visit is not None,
            action=request.path,
            was_wrong=was_wrong,
        )

    async def _chosen(self, request: web.Request, key: FaceKey) -> Selection:
        part = await self._context.lookup.of(key) if request.match_info["what"] == "visit" else None
        return selection_of(key, part.visit if part is not None else None)

    async def _erase(self, request: web.Request) -> web.Response:
        token = (await request.post()).get("token", "")
        if not isinstance(token, str) or not self._erasing.guard.knows(token.strip()):
            _drops.count("wrong_erase_token", remote=request.remote)
            return await self._page(request, was_wrong=True)
        try:
            order = await self._erasing.order(await self._chosen(request, key_in(request)))
        except BrokenLog as error:
            return self._pages.problem(409, "Nothing is erased", f"The log of erasures was changed: {error}.")
        self._context.forget(order)
        detail = f"Order {order.name}: it goes now, and is looked for again in a minute."
        return self._pages.problem(202, "It is being erased", detail)
