"""Fetches live pictures from captures; answers are bounded and checked."""

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp

from services.common.errors import Refused
from services.common.wire.outlines import Outlines
from services.common.wire.topics import Source, is_name

TIMEOUT_S = 7.0
"""Longer than the five seconds that capture waits for a picture."""
MOST_PICTURE_BYTES = 8 * 1024 * 1024
MOST_OUTLINES_BYTES = 16 * 1024
MOST_AT_ONCE = 8
"""Pictures fetched at a time; further requests are refused, and the page asks again."""
_JPEG = b"\xff\xd8\xff"


class LiveUnavailable(Exception):
    """A capture gave no picture; the message is the reason, in words."""


def read_places(text: str) -> dict[str, str]:
    """Return the root URL of each device's capture: `porch=http://192.0.2.7:8081,...`.

    Raises:
        ValueError: a part is malformed; the message repeats no credentials.
    """
    places: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
        device, equals, url = part.partition("=")
        parts = urlsplit(url)
        if not equals or not is_name(device) or device in places:
            raise ValueError("each is a device's name, once, '=' and an address")
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
            raise ValueError(f"{device}: an address such as http://192.0.2.7:8081 is wanted")
        if parts.username or parts.password or parts.query or parts.path.strip("/") not in ("", "live"):
            raise ValueError(f"{device}: an address has a host and a port alone; the token is a setting")
        places[device] = f"{parts.scheme}://{parts.netloc}"
    return places


class LiveClient:
    """Fetches live pictures of cameras.

    Args:
        places: the root URL of each device's capture.
        token: sent to all of them; None: none is sent.
    """

    def __init__(self, places: Mapping[str, str], token: str | None) -> None:
        self._places = places
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._under_way = 0

    def knows(self, source: Source) -> bool:
        """Say whether the capture of a camera is known."""
        return source.device in self._places

    async def picture(self, source: Source) -> bytes:
        """Return a camera's current picture, a JPEG of at most `MOST_PICTURE_BYTES`.

        Raises:
            LiveUnavailable: capture gave none.
        """
        body = await self._fetch(source, "jpg", MOST_PICTURE_BYTES)
        if not body.startswith(_JPEG):
            raise LiveUnavailable("what came is no picture")
        return body

    async def outlines(self, source: Source) -> Outlines | None:
        """Return the outlines of faces in the current picture, or None without faces.

        Raises:
            LiveUnavailable: capture gave none.
        """
        body = await self._fetch(source, "json", MOST_OUTLINES_BYTES)
        try:
            found = json.loads(body)
            return Outlines.read(found) if found != {} else None
        except (ValueError, RecursionError, Refused) as error:
            raise LiveUnavailable("what came is no place of a face") from error

    async def _fetch(self, source: Source, kind: str, most_bytes: int) -> bytes:
        if self._under_way >= MOST_AT_ONCE:
            raise LiveUnavailable("too many are looking")
        self._under_way += 1
        try:
            return await self._get(f"{self._places[source.device]}/live/{source.camera}.{kind}", most_bytes)
        except TimeoutError as error:
            raise LiveUnavailable("capture did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise LiveUnavailable("capture cannot be reached") from error
        finally:
            self._under_way -= 1

    async def _get(self, url: str, most_bytes: int) -> bytes:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aiohttp.ClientSession(headers=self._headers, trust_env=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise LiveUnavailable(_WHY.get(answer.status, "capture answered something else"))
            body = bytearray()
            async for piece in answer.content.iter_chunked(65_536):
                body += piece
                if len(body) > most_bytes:
                    raise LiveUnavailable("what came is too large")
            return bytes(body)


_WHY = {
    401: "capture wants another token",
    403: "capture shows nothing beyond its machine without a token",
    404: "capture knows no such camera",
    503: "the camera gives no picture",
}
