"""One write whose answer is seen whole, for the few whose answer obstore tells too little of.

obstore keeps an answer's headers to itself: how long a server wants to be left alone, where it redirects to,
which region it expects. This costs as much as botocore does, so it is done once for a trouble, not for each
face.
"""

import base64
import hashlib
import io
import os
import ssl
from dataclasses import dataclass

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from services.common.errors import FaceferryError
from services.common.storage.objects import StoredObject
from services.common.storage.s3_answers import Answer
from services.common.storage.s3_keys import Keys

_START_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Write:
    """A write as obstore would send it.

    Attributes:
        url: where to, without a query, its path encoded.
        item: what.
        region: that is signed for.
        headers: what else the request says: encryption, a condition.
        has_checksum: whether it says the body's SHA-256.
    """

    url: str
    item: StoredObject
    region: str
    headers: dict[str, str]
    has_checksum: bool


async def look(write: Write, keys: Keys, timeout_s: float) -> Answer | None:
    """Send a write and return the answer; nothing where there is none, or only the beginning of one.

    Raises:
        Cut: the answer ended before its headers did, or was no HTTP.
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
            return Answer(answer.status, headers, start.decode(errors="replace"))
    except aiohttp.ClientResponseError as error:
        raise Cut("no HTTP") from error
    except aiohttp.ServerDisconnectedError as error:
        if not isinstance(error.message, str):
            raise Cut("ended within its headers") from error
        return None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


class Cut(FaceferryError):
    """What came is not an answer, or not a whole one."""


def trusted(url: str) -> ssl.SSLContext | bool:
    """Return whom aiohttp is to trust at an address: those whom botocore would."""
    if not url.startswith("https:"):
        return True
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))


async def _start(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.content.read(_START_BYTES)
    except (aiohttp.ClientError, TimeoutError):
        return b""  # cut short; what counts is in the headers


def _signed_headers(write: Write, keys: Keys) -> dict[str, str]:
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
