"""Single requests to a bucket, signed with the current keys."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from services.common.storage import s3_errors
from services.common.storage.locations import Bucket
from services.common.storage.objects import NoSuchObject, StoredObject, StoreUnavailable
from services.common.storage.s3_answers import HttpAnswer
from services.common.storage.s3_client import Clients, S3Settings
from services.common.storage.s3_credentials import AccessKeys, CredentialKeeper
from services.common.storage.s3_signed import ListedFolder, Write, first_folders, send_write

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta, PutResult

Mode = Literal["create", "overwrite"]
FOREIGN = (BaseError, FileNotFoundError)
"""What obstore raises."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How objects are written, as the server accepts it.

    Attributes:
        mode: `create` sends `If-None-Match: *`.
        has_checksum: whether a write sends the body's SHA-256.
    """

    mode: Mode = "create"
    has_checksum: bool = True


class Requests:
    """Does single requests. Unless documented otherwise methods raise one of `FOREIGN`.

    Args:
        bucket: name and prefix.
        access: how it is reached.
    """

    def __init__(self, bucket: Bucket, access: S3Settings) -> None:
        self._access = access
        self._prefix = bucket.prefix
        self._clients = Clients(bucket, access)
        self._credentials = CredentialKeeper(access.timeout_s)
        self._secrets: tuple[str, ...] = ()

    async def close(self) -> None:
        """Stop the search for credentials."""
        await self._credentials.close()

    async def put(self, item: StoredObject, way: WriteOptions) -> "PutResult":
        """Write an object; return its ETag and version."""

        async def send(client: Client) -> "PutResult":
            return await obstore.put_async(
                client,
                item.key,
                item.body,
                attributes={"Content-Type": item.content_type, **item.metadata},
                mode=way.mode,
                use_multipart=False,
            )

        return await self._signed(send, has_checksum=way.has_checksum, is_write=True)

    async def get(self, key: str, most_bytes: int | None = None) -> StoredObject:
        """Read an object.

        Args:
            key: its key.
            most_bytes: stop after so many, because the server may send anything; None: read all.

        Raises:
            NoSuchObject: there is none.
        """

        async def read(client: Client) -> StoredObject:
            found = await obstore.get_async(client, key)
            metadata = _metadata(found)
            content_type = metadata.pop("Content-Type", "application/octet-stream")
            if most_bytes is None:
                body = bytes(await found.bytes_async())
            else:
                body = await _beginning(found, most_bytes)
            return StoredObject(key, body, content_type, metadata)

        try:
            return await self._signed(read)
        except FileNotFoundError as error:
            if not s3_errors.is_no_object(error):
                raise
            raise NoSuchObject(key) from error

    async def fetch(self, key: str, start: int, end: int | None) -> bytes:
        """Read an object's bytes from `start` up to `end`, which is not included; None: to its end.

        Raises:
            NoSuchObject: there is none.
        """

        async def part(client: Client) -> bytes:
            if end is not None:
                return bytes(await obstore.get_range_async(client, key, start=start, end=end))
            options: GetOptions = {"range": {"offset": start}} if start else {}
            return bytes(await (await obstore.get_async(client, key, options=options)).bytes_async())

        try:
            return await self._signed(part)
        except FileNotFoundError as error:
            if not s3_errors.is_no_object(error):
                raise
            raise NoSuchObject(key) from error

    async def remove(self, key: str) -> None:
        """Remove an object."""
        await self._signed(lambda client: obstore.delete_async(client, key), is_write=True)

    async def about(self, key: str) -> dict[str, str]:
        """Return an object's metadata, by HEAD.

        Raises:
            NoSuchObject: there is no object, or no bucket: the answer to HEAD does not say which.
        """

        async def read(client: Client) -> dict[str, str]:
            metadata = _metadata(await obstore.get_async(client, key, options={"head": True}))
            metadata.pop("Content-Type", None)
            return metadata

        try:
            return await self._signed(read)
        except FileNotFoundError as error:
            raise NoSuchObject(key) from error

    async def head(self, key: str) -> "ObjectMeta":
        """Return an object's size and ETag, by HEAD."""
        return await self._signed(lambda client: obstore.head_async(client, key))

    async def client(self) -> Client:
        """Return a client for listings and other requests."""
        return self._clients.get(await self._current(), has_checksum=False)

    async def first_folders(self, folder: str, after: str, most: int) -> list[str] | None:
        """Return the names of the first folders in a folder; see `s3_signed.first_folders`."""
        keys = await self._current()
        signed = await obstore.sign_async(
            self._clients.get(keys, has_checksum=False), "GET", "a", timedelta(minutes=1)
        )
        prefix = "".join(f"{part}/" for part in f"{self._prefix}/{folder}".split("/") if part)
        own_parts = sum(1 for part in self._prefix.split("/") if part)
        bucket = signed.partition("?")[0].rsplit("/", 1 + own_parts)[0]
        place = ListedFolder(f"{bucket}/", self._clients.region, prefix)
        return await first_folders(place, keys, self._access.timeout_s, after=after, most=most)

    async def put_with_answer(self, item: StoredObject, way: WriteOptions) -> HttpAnswer | None:
        """Write an object without obstore; return the whole answer, or None without one.

        Raises:
            IncompleteAnswer: only a part of one came.
        """
        keys = await self._current()
        client = self._clients.get(keys, has_checksum=way.has_checksum)
        url = await obstore.sign_async(client, "PUT", item.key, timedelta(minutes=1))
        condition = {"If-None-Match": "*"} if way.mode == "create" else {}
        headers = {**self._access.encryption.headers(), **condition}
        write = Write(url.partition("?")[0], item, self._clients.region, headers, way.has_checksum)
        return await send_write(write, keys, self._access.timeout_s)

    def detail(self, error: Exception) -> str:
        """Return the text of an error without secrets."""
        return s3_errors.detail(error, self._secrets)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what obstore raises into `StoreUnavailable`."""
        try:
            yield
        except FOREIGN as error:
            raise StoreUnavailable(s3_errors.reason(error), self.detail(error)) from error

    async def _signed(
        self,
        request: Callable[[Client], Awaitable[T]],
        *,
        has_checksum: bool = False,
        is_write: bool = False,
    ) -> T:
        """Do a request, and again where its keys were refused and there are newer ones."""
        keys = await self._current()
        try:
            return await request(self._clients.get(keys, has_checksum=has_checksum))
        except FOREIGN as error:
            if not s3_errors.may_newer_keys_help(error, is_write=is_write):
                raise
            newer = await self._credentials.newer_than(keys)
            if newer is None:
                raise
            self._secrets = newer.secrets
        return await request(self._clients.get(newer, has_checksum=has_checksum))

    async def _current(self) -> AccessKeys:
        keys = await self._credentials.current()
        self._secrets = keys.secrets
        return keys


def _metadata(found: "GetResult") -> dict[str, str]:
    return {str(name): str(value) for name, value in found.attributes.items()}


async def _beginning(found: "GetResult", most_bytes: int) -> bytes:
    body = b""
    async for chunk in found.stream(min_chunk_size=65_536):
        body += bytes(chunk)
        if len(body) > most_bytes:
            break
    return body
