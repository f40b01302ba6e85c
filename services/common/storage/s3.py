import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, cast

import aioboto3
import obstore
import structlog
from botocore.exceptions import BotoCoreError
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from obstore.store import S3Store as Client

from services.common.errors import SetupError
from services.common.storage import s3_errors
from services.common.storage.locations import Bucket
from services.common.storage.objects import PROBE, Entry, NoSuchObject, StoredObject, StoreUnavailable

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials
    from obstore.store import S3Config, S3Credential

log = structlog.get_logger()

_DEFAULT_REGION = "us-east-1"
Mode = Literal["create", "overwrite"]
_REREAD_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How a bucket is reached: see `ObjectStoreSettings`."""

    endpoint_url: str | None = None
    is_path_style: bool | None = None
    timeout_s: float = 10.0


class S3Store:
    """Keeps objects in an S3 bucket.

    The requests are obstore's (Rust), which costs a quarter of botocore's processor time; credentials and
    region are found by botocore, wherever it looks for them. Retries are the caller's.

    Args:
        bucket: name and prefix.
        access: how it is reached.
    """

    check_every_s = 300.0  # requests cost money: 9,000 of these a month, some cents

    def __init__(self, bucket: Bucket, access: S3Settings) -> None:
        endpoint = access.endpoint_url or _endpoint_from_environment()
        config: S3Config = {
            "region": _region(),
            **addressing(bucket.name, endpoint, is_path_style=access.is_path_style),
        }
        _trust_authorities()
        self._client = Client(
            bucket.name,
            prefix=bucket.prefix or None,
            config=config,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http:")),
                "timeout": f"{access.timeout_s}s",
                "connect_timeout": f"{min(access.timeout_s, 5.0)}s",
            },
            retry_config={"max_retries": 0},
            credential_provider=_credentials,
        )
        self._mode: Mode = "create"

    async def verify(self) -> None:
        """Write a probe, and see whether the server honours `If-None-Match: *`.

        Where it does not, objects are overwritten, with what they hold already.
        """
        with _translated():
            await self._send(PROBE, "overwrite")
            self._mode = "create" if await self._is_condition_honoured() else "overwrite"
        log.info("store.bucket_probed", mode=self._mode)

    async def check(self, room_bytes: int) -> None:  # noqa: ARG002 - a bucket has room
        """Ask for the probe to be written: where conditions are honoured, that makes no new version of it."""
        await self.put(PROBE)

    async def put(self, item: StoredObject) -> bool:
        """Write an object; S3 answers when it is durable."""
        with _translated():
            try:
                await self._send(item, self._mode)
            except AlreadyExistsError as error:
                # obstore says so on 409 too, when another write of the same key is under way and may fail.
                if s3_errors.status(error) != "412":
                    raise
                return False
        return True

    async def get(self, key: str) -> StoredObject:
        """Read an object."""
        with _translated():
            try:
                found = await obstore.get_async(self._client, key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise NoSuchObject(key) from error
            metadata = {str(name): str(value) for name, value in found.attributes.items()}
            content_type = metadata.pop("Content-Type", "application/octet-stream")
            return StoredObject(key, bytes(await found.bytes_async()), content_type, metadata)

    async def entries(self, folder: str) -> AsyncIterator[Entry]:
        """Yield what lies under a folder, a thousand for each request."""
        with _translated():
            async for page in obstore.list(self._client, prefix=folder or None, chunk_size=1_000):
                for found in page:
                    yield Entry(found["path"], found["size"])

    async def within(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[Entry]:
        """Yield what lies directly within a folder, in order: S3 starts the listing where it is told to."""
        offset = f"{folder}/{after}" if after else None
        with _translated():
            async for page in obstore.list(self._client, prefix=folder, offset=offset, chunk_size=1_000):
                for found in page:
                    if before and found["path"] >= f"{folder}/{before}":
                        return
                    yield Entry(found["path"], found["size"])

    async def folders(self, folder: str) -> list[str]:
        """Return the folders within a folder."""
        with _translated():
            found = await obstore.list_with_delimiter_async(self._client, prefix=folder or None)
            return sorted(path for path in found["common_prefixes"] if not path.startswith("."))

    async def link(self, key: str, valid_s: int) -> str | None:
        """Return a presigned address of an object."""
        with _translated():
            return await obstore.sign_async(self._client, "GET", key, timedelta(seconds=valid_s))

    async def _send(self, item: StoredObject, mode: Mode) -> None:
        await obstore.put_async(
            self._client,
            item.key,
            item.body,
            attributes={"Content-Type": item.content_type, **item.metadata},
            mode=mode,
            use_multipart=False,
        )

    async def _is_condition_honoured(self) -> bool:
        try:
            await self._send(PROBE, "create")
        except AlreadyExistsError as error:
            if s3_errors.status(error) != "412":
                raise
            return True
        except GenericError as error:
            if s3_errors.status(error) == "501":
                return False  # such a server knows nothing of conditions
            raise
        return False


def addressing(bucket: str, endpoint: str | None, *, is_path_style: bool | None) -> "S3Config":
    """Return how the client is to address a bucket: in the path, or in the host name.

    Args:
        bucket: its name.
        endpoint: a server other than AWS's.
        is_path_style: nothing said means yes on such a server, for few have a host name for each bucket.
    """
    if endpoint is None:
        return {"virtual_hosted_style_request": not is_path_style}
    if is_path_style is not False:
        return {"endpoint": endpoint, "virtual_hosted_style_request": False}
    scheme, host = endpoint.split("://", 1)
    return {"endpoint": f"{scheme}://{bucket}.{host}", "virtual_hosted_style_request": True}


async def _credentials() -> "S3Credential":
    """Return what botocore finds, for five minutes: credentials may be rotated at any time."""
    # The stubs say that what is found is not awaited; it is.
    credentials = await cast("Awaitable[AioCredentials | None]", aioboto3.Session().get_credentials())
    frozen = await credentials.get_frozen_credentials() if credentials is not None else None
    if frozen is None or frozen.access_key is None or frozen.secret_key is None:
        raise StoreUnavailable("no_credentials", "none found in AWS_*, the AWS files or the instance")
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + _REREAD_AFTER,
    }


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError, BotoCoreError) as error:
        raise StoreUnavailable(s3_errors.reason(error), s3_errors.detail(error)) from error


def _trust_authorities() -> None:
    """Have `AWS_CA_BUNDLE` trusted, as botocore would.

    obstore has no setting for it: the TLS library below reads `SSL_CERT_FILE` at its first connection.
    Python's own TLS reads it too, but only when a context is made, and the link to the broker has made its.
    """
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        os.environ.setdefault("SSL_CERT_FILE", bundle)


def _endpoint_from_environment() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region() -> str:
    try:
        return aioboto3.Session().region_name or _DEFAULT_REGION
    except BotoCoreError as error:
        raise SetupError(f"the AWS settings cannot be used: {error}") from error
