"""Lists and removes all copies in a bucket, versions and marks of deletions included."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import obstore
import structlog
from botocore.exceptions import ClientError

from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage import s3_errors
from services.common.storage.locations import Bucket
from services.common.storage.objects import Copy, StoreUnavailable
from services.common.storage.s3_admin import NOT_THERE, NotOffered, admin, code_of, reason_of, translated
from services.common.storage.s3_client import S3Settings
from services.common.storage.s3_requests import FOREIGN, Requests
from services.common.wire.times import EPOCH

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

REMOVALS_AT_A_TIME = 8
REFUSED = frozenset({"forbidden"})
"""Reasons that concern a single object that the server keeps, such as a locked one."""

log = structlog.get_logger()

T = TypeVar("T")


class Version(NamedTuple):
    """A version of one key: its id, and its content."""

    id: str
    body: bytes


class Copies:
    """Lists and removes copies.

    Without versions in the bucket obstore does it, at a fraction of the cost.

    Args:
        bucket: name and prefix.
        access: how it is reached.
        requests: to the same bucket.
    """

    def __init__(self, bucket: Bucket, access: S3Settings, requests: Requests) -> None:
        self._bucket = bucket
        self._access = access
        self._requests = requests
        self._is_versioned: bool | None = None
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: S3Client | None = None
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""

    async def under(self, folder: str) -> AsyncGenerator[Copy]:
        """Yield all copies under a folder."""
        if await self._keeps_versions():
            async for copy in self._versions(await self._admin(), folder):
                yield copy
        else:
            with self._requests.translated():
                plain = await self._requests.client()
                async for page in obstore.list(plain, prefix=folder or None, chunk_size=1_000):
                    for found in page:
                        yield Copy(found["path"], found["last_modified"])

    async def remove(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        """Remove copies; return those that the server refuses to remove, each with the reason."""
        of_key: defaultdict[str, list[Copy]] = defaultdict(list)
        for copy in copies:
            of_key[copy.key].append(copy)
        refused: dict[Copy, str] = {}
        for some in await ConcurrencyLimit(REMOVALS_AT_A_TIME).each(of_key.values(), self._remove):
            refused |= some
        return refused

    async def settle(self, key: str, body: bytes) -> bool | None:
        """Say whether a key that was just written was created with this content; remove this content if not.

        A server that checks before it writes lets several concurrent writers create one key. Where it keeps
        versions the first of them decides, and each of the other writers removes its own.

        Returns:
            None where versions do not tell: none are kept or may be read, or the key was deleted meanwhile.
        """
        if not await self._keeps_versions():
            return None
        try:
            versions = await self._contents(f"{self._prefix}{key}")
        except NotOffered:
            return None
        except StoreUnavailable as error:
            if error.reason == "forbidden":
                return None
            raise
        if not versions:
            return None
        if versions[-1].body == body:
            return True
        await self.remove([Copy(key, EPOCH, version.id) for version in versions if version.body == body])
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._open.aclose()

    async def _remove(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        """Remove copies of one key, one after the other.

        When the newest version goes, another becomes the newest, and the server may move it at that moment.
        """
        refused: dict[Copy, str] = {}
        for copy in copies:
            remove = self._remove_plain if copy.version is None else self._remove_version
            if (reason := await remove(copy)) is not None:
                refused[copy] = reason
        return refused

    async def _admin(self) -> "S3Client":
        async with self._opening:
            if self._client is None:
                self._client = await self._open.enter_async_context(admin(self._access))
        return self._client

    async def _keeps_versions(self) -> bool:
        if self._is_versioned is None:
            try:
                with translated():
                    client = await self._admin()
                    found = await client.get_bucket_versioning(Bucket=self._bucket.name)
                self._is_versioned = found.get("Status") in ("Enabled", "Suspended")
            except NotOffered:
                self._is_versioned = False
            except StoreUnavailable as error:
                if error.reason not in ("forbidden", "rejected"):
                    raise
                log.warning("store.versions_unknown", detail=error.detail)
                self._is_versioned = False
        return self._is_versioned

    async def _versions(self, client: "S3Client", folder: str) -> AsyncGenerator[Copy]:
        prefix = f"{self._prefix}{folder}/" if folder else self._prefix
        pages = client.get_paginator("list_object_versions").paginate(Bucket=self._bucket.name, Prefix=prefix)
        async for page in _translated(pages):
            for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                key = found["Key"].removeprefix(self._prefix)
                yield Copy(key, found["LastModified"], found.get("VersionId") or "null")

    async def _contents(self, name: str) -> list[Version]:
        """Return the versions of one key, the newest first; none if it was ever deleted."""
        client = await self._admin()
        with translated():
            listed = await client.list_object_versions(Bucket=self._bucket.name, Prefix=name)
            if any(mark["Key"] == name for mark in listed.get("DeleteMarkers", [])):
                return []
            ids = [
                each.get("VersionId") or "null" for each in listed.get("Versions", []) if each["Key"] == name
            ]
            # A single one is read, too: the server may list another writer's alone while it moves ours.
            bodies = [await self._body(client, name, version) for version in ids]
        return [Version(id_, body) for id_, body in zip(ids, bodies, strict=True) if body is not None]

    async def _body(self, client: "S3Client", name: str, version: str) -> bytes | None:
        """Return a version's content; None where its writer has removed it meanwhile."""
        try:
            answer = await client.get_object(Bucket=self._bucket.name, Key=name, VersionId=version)
        except ClientError as error:
            if code_of(error) in NOT_THERE:
                return None
            raise
        async with answer["Body"] as stream:
            return bytes(await stream.read())

    async def _remove_plain(self, copy: Copy) -> str | None:
        try:
            await obstore.delete_async(await self._requests.client(), copy.key)
        except FOREIGN as error:
            if s3_errors.is_no_object(error):
                return None
            if (reason := s3_errors.reason(error)) in REFUSED:
                return reason
            raise StoreUnavailable(reason, self._requests.detail(error)) from error
        return None

    async def _remove_version(self, copy: Copy) -> str | None:
        client = await self._admin()
        with translated():
            try:
                await client.delete_object(
                    Bucket=self._bucket.name,
                    Key=f"{self._prefix}{copy.key}",
                    VersionId=copy.version or "null",
                )
            except ClientError as error:
                if code_of(error) in NOT_THERE:
                    return None
                if (reason := reason_of(error)) in REFUSED:
                    return reason
                raise
        return None


async def _translated(pages: AsyncIterator[T]) -> AsyncGenerator[T]:
    with translated():
        async for page in pages:
            yield page
