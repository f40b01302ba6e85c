"""Requests that obstore cannot do: a write with its whole answer, and a part of a list of folders.

obstore does not report an answer's headers: how long a server asks to wait, where it redirects to, which
region it expects. These requests cost as much as botocore's, so they are done once for a failure, not for
each face.
"""

import base64
import hashlib
import html
import io
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from services.common.errors import FaceferryError
from services.common.storage.objects import StoredObject
from services.common.storage.s3_answers import HttpAnswer
from services.common.storage.s3_credentials import AccessKeys

_START_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Write:
    """A write as obstore would send it.

    Attributes:
        url: the object's, its path encoded, without a query.
        item: the object.
        region: for which the request is signed.
        headers: further headers: encryption, a condition.
        has_checksum: whether it sends the body's SHA-256.
    """

    url: str
    item: StoredObject
    region: str
    headers: dict[str, str]
    has_checksum: bool


async def send_write(write: Write, keys: AccessKeys, timeout_s: float) -> HttpAnswer | None:
    """Send a write and return the answer, or None without one.

    Raises:
        IncompleteAnswer: the answer ended before its headers did, or was no HTTP.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session,
            session.put(
                URL(write.url, encoded=True),
                data=io.BytesIO(write.item.body),  # aiohttp warns of bytes that are large
                headers=_signed_headers(write, keys),
                allow_redirects=False,
                ssl=trusted(write.url),
            ) as answer,
        ):
            headers = {name.lower(): value for name, value in answer.headers.items()}
            start = await _start(answer)
            return HttpAnswer(answer.status, headers, start.decode(errors="replace"))
    except aiohttp.ClientResponseError as error:
        raise IncompleteAnswer("no HTTP") from error
    except aiohttp.ServerDisconnectedError as error:
        if not isinstance(error.message, str):
            raise IncompleteAnswer("ended within its headers") from error
        return None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


class IncompleteAnswer(FaceferryError):
    """The server sent no HTTP, or only a part of an answer."""


def trusted(url: str) -> ssl.SSLContext | bool:
    """Return the authorities that aiohttp trusts for a URL: those that botocore trusts."""
    if not url.startswith("https:"):
        return True
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))


async def _start(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.content.read(_START_BYTES)
    except (aiohttp.ClientError, TimeoutError):
        return b""  # cut short; what counts is in the headers


def _signed_headers(write: Write, keys: AccessKeys) -> dict[str, str]:
    item = write.item
    headers = {
        "Content-Type": item.content_type,
        **{f"x-amz-meta-{name}": value for name, value in item.metadata.items()},
        **write.headers,
    }
    if write.has_checksum:
        headers["x-amz-checksum-sha256"] = base64.b64encode(hashlib.sha256(item.body).digest()).decode()
    request = AWSRequest("PUT", write.url, data=item.body, headers=headers)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.token)
    S3SigV4Auth(credentials, "s3", write.region).add_auth(request)
    return dict(request.headers.items())


NAMES_AT_ONCE = 1_000
_MOST_BYTES = 8 * 1024 * 1024
_FOLDER = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]+)</Prefix>")
_IS_ENCODED = re.compile(r"<EncodingType>\s*url\s*</EncodingType>")


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """A folder of a bucket to list.

    Attributes:
        url: the bucket's, without a query.
        region: for which the request is signed.
        prefix: of all names; it ends with `/`, or is empty.
    """

    url: str
    region: str
    prefix: str


async def first_folders(
    place: ListedFolder, keys: AccessKeys, timeout_s: float, *, after: str, most: int
) -> list[str] | None:
    """Return the names of the first folders after a name, by one request, or None where it fails.

    Args:
        place: the folder to list.
        keys: sign the request.
        timeout_s: seconds that it may take.
        after: only names greater than this; `""` for no bound.
        most: how many, at most; up to `NAMES_AT_ONCE`.
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
    # The folder `after` itself is listed where it has contents that sort after its name.
    return [name for name in names if name > after][:most]


async def _ask(url: str, region: str, keys: AccessKeys, timeout_s: float) -> str | None:
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
