"""The folders in a bucket, some at a time: obstore can only be asked for all of them at once."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from services.common.storage.s3_keys import Keys
from services.common.storage.s3_look import trusted

NAMES_AT_ONCE = 1_000
_MOST_BYTES = 8 * 1024 * 1024
_FOLDER = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]+)</Prefix>")
_IS_ENCODED = re.compile(r"<EncodingType>\s*url\s*</EncodingType>")


@dataclass(frozen=True, slots=True)
class Place:
    """Where is listed.

    Attributes:
        url: the bucket's, without a query.
        region: that is signed for.
        prefix: of all names; it ends with `/`, or is empty.
    """

    url: str
    region: str
    prefix: str


async def first_folders(
    place: Place, keys: Keys, timeout_s: float, *, after: str, most: int
) -> list[str] | None:
    """Return the names of the first folders behind a name, by one request; nothing where it brings none.

    Args:
        place: where.
        keys: what the request is signed with.
        timeout_s: how long it may take.
        after: only names greater than this; `""` for no bound.
        most: at most so many, and at most `NAMES_AT_ONCE`.
    """
    query = {
        "delimiter": "/",
        "encoding-type": "url",
        "list-type": "2",
        "max-keys": str(NAMES_AT_ONCE),
        **({"prefix": place.prefix} if place.prefix else {}),
        **({"start-after": f"{place.prefix}{after}"} if after else {}),
    }
    text = await _ask(f"{place.url}?{_encoded(query)}", place.region, keys, timeout_s)
    if text is None or "<ListBucketResult" not in text:
        return None
    paths = [html.unescape(path) for path in _FOLDER.findall(text)]
    if _IS_ENCODED.search(text):
        paths = [unquote_plus(path) for path in paths]
    names = sorted(path.removeprefix(place.prefix).removesuffix("/") for path in paths)
    # What lies in the folder of the name `after` lies behind it.
    return [name for name in names if name > after][:most]


async def _ask(url: str, region: str, keys: Keys, timeout_s: float) -> str | None:
    request = AWSRequest("GET", url)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.token)
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(
                URL(url, encoded=True),
                headers=dict(request.headers.items()),
                allow_redirects=False,
                ssl=trusted(url),
            ) as answer,
        ):
            body = await _whole(answer) if answer.status == 200 else None
            return None if body is None else body.decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


async def _whole(answer: aiohttp.ClientResponse) -> bytes | None:
    body = b""
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            return None
    return body


def _encoded(query: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
