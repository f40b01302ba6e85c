import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self

import obstore
import structlog

from services.common.storage import s3_errors, sidecar
from services.common.storage.keys import day_in, parse_key
from services.common.storage.locations import Bucket
from services.common.storage.objects import (
    PROBE,
    Copy,
    ListedObject,
    NoSuchObject,
    StoredObject,
    StoreUnavailable,
)
from services.common.storage.reverse_listing import reverse_entries
from services.common.storage.s3_answers import is_digest, is_same_tag
from services.common.storage.s3_client import S3Settings
from services.common.storage.s3_copies import Copies
from services.common.storage.s3_diagnosis import WriteDiagnosis, unavailable
from services.common.storage.s3_probe import probe
from services.common.storage.s3_requests import FOREIGN, Requests, WriteOptions
from services.common.storage.s3_signed import NAMES_AT_ONCE as MOST_FOLDERS

log = structlog.get_logger()

PROBE_AGAIN_S = 30.0
"""Seconds after which a bucket that rejects a write is probed again."""


class S3Store:
    """Keeps objects in an S3 bucket.

    obstore (Rust) does the requests, at a quarter of botocore's CPU time; botocore finds credentials and
    region. It does not retry; the caller does.

    A write counts when the answer's ETag is the MD5 of the body, which only a bucket can give. Otherwise the
    object is looked up, because login pages and proxies' error pages answer 200, too.

    Use it as an async context manager, or leave it to the end of the process.

    Args:
        bucket: name and prefix.
        access: how it is reached.
    """

    check_every_s = 300.0  # requests cost money: 9,000 of these a month, some cents

    def __init__(self, bucket: Bucket, access: S3Settings) -> None:
        self._requests = Requests(bucket, access)
        self._copies = Copies(bucket, access, self._requests)
        self._diagnosis = WriteDiagnosis(self._requests)
        self._way = WriteOptions()
        self._is_tag_digest = False
        self._probed_at = float("-inf")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._copies.close()
        await self._requests.close()

    async def verify(self) -> None:
        """Write a probe and read it back, and find out which headers the server accepts.

        Without `If-None-Match: *` objects are overwritten with the same content. A checksum is left out only
        where the server refuses it.
        """
        self._diagnosis.check_quiet()
        self._probed_at = time.monotonic()
        try:
            found = await probe(self._requests)
        except FOREIGN as error:
            failure = await self._diagnosis.diagnose(
                error, PROBE, WriteOptions("overwrite", self._way.has_checksum)
            )
            raise unavailable(failure) from error
        self._way, self._is_tag_digest = found.way, found.is_tag_digest
        log.info(
            "store.bucket_probed",
            mode=found.way.mode,
            checksum="sha256" if found.way.has_checksum else "none",
            checked_by="digest" if found.is_tag_digest else "lookup",
            is_readable=found.is_readable,
        )
        if found.lost:
            log.warning("store.metadata_lost", names=list(found.lost))

    async def check(self, room_bytes: int) -> None:  # noqa: ARG002 - a bucket is never full
        """Write the probe; where conditions are honoured that makes no new version."""
        await self.put(PROBE)

    async def put(self, item: StoredObject) -> bool:
        """Write an object; S3 answers once it is durable."""
        self._diagnosis.check_quiet()
        if await self._write(item, self._way):
            return True
        is_held = await self._is_held(item)
        if is_held:
            return False
        # The server said that it exists, but it is missing, different or not readable. Overwriting is safe,
        # because the key determines the content.
        if not await self._write(item, replace(self._way, mode="overwrite")):
            raise StoreUnavailable("bad_answer", f"{item.key} is said to be there, and is not")
        return is_held is False

    async def get(self, key: str) -> StoredObject:
        """Read an object."""
        with self._requests.translated():
            item = await self._requests.get(key)
            content_type, metadata = await self._known(key, item.content_type, item.metadata)
            return replace(item, content_type=content_type, metadata=metadata)

    async def about(self, key: str) -> Mapping[str, str]:
        """Return an object's metadata: one request without a body."""
        with self._requests.translated():
            return (await self._known(key, "", await self._requests.about(key)))[1]

    async def keep(self, key: str, body: bytes) -> None:
        """Write a plain file; S3 answers once it is durable."""
        await self.put(StoredObject(key, body, "application/octet-stream", {}))

    async def create(self, key: str, body: bytes) -> bool:
        """Write a plain file unless it exists; without conditional writes that is checked first."""
        self._diagnosis.check_quiet()
        item = StoredObject(key, body, "application/octet-stream", {})
        if self._way.mode != "create":
            with suppress(NoSuchObject):
                return await self.fetch(key) == body
        # Some servers check before they write, so that two concurrent writers both succeed.
        is_written = await self._write(item, self._way)
        if is_written and (is_first := await self._copies.settle(key, body)) is not None:
            return is_first
        is_held = await self._is_held(item)
        return is_held or (is_written and is_held is None)

    async def clear_unfinished(self, before: datetime) -> int:  # noqa: ARG002
        """Return 0: an object is written by one request, whole or not at all."""
        return 0

    async def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Read a file, or a part of it: one request."""
        with self._requests.translated():
            return await self._requests.fetch(key, start, end)

    async def remove(self, key: str) -> None:
        """Remove a file; S3 answers the same whether it existed or not."""
        with self._requests.translated():
            await self._requests.remove(key)

    async def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        """Yield all objects under a folder, a thousand for each request."""
        with self._requests.translated():
            client = await self._requests.client()
            async for page in obstore.list(client, prefix=folder or None, chunk_size=1_000):
                for found in page:
                    yield ListedObject(found["path"], found["size"])

    async def first(
        self, folder: str, count: int, *, after: str = "", before: str = ""
    ) -> list[ListedObject]:
        """Return the first objects directly in a folder, sorted by name."""
        found: list[ListedObject] = []
        async with aclosing(self._within(folder, after, before)) as pages:
            async for page in pages:
                found += page
                if len(found) >= count:
                    break
        return found[:count]

    async def reverse_entries(
        self,
        folder: str,
        *,
        before: str = "",
        at_once: int = 64,  # noqa: ARG002 - S3 answers a thousand
    ) -> AsyncIterator[ListedObject]:
        """Yield the objects in a folder of a day, the last name first, although S3 lists only forward."""
        day = day_in(folder)
        assert day is not None, folder
        async for entry in reverse_entries(partial(self.first, folder), day, before):
            yield entry

    async def names(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[list[str]]:
        """Yield all names directly in a folder, a thousand for each request."""
        async with aclosing(self._within(folder, after, before)) as pages:
            async for page in pages:
                yield [entry.key.rpartition("/")[2] for entry in page]

    async def _within(self, folder: str, after: str, before: str) -> AsyncGenerator[list[ListedObject], None]:
        """Yield the objects directly in a folder, in order, between two names."""
        offset = f"{folder}/{after}" if after else None
        end = f"{folder}/{before}" if before else None
        with self._requests.translated():
            client = await self._requests.client()
            async for page in obstore.list(client, prefix=folder, offset=offset, chunk_size=1_000):
                wanted = [
                    ListedObject(each["path"], each["size"])
                    for each in page
                    if end is None or each["path"] < end
                ]
                yield wanted
                if len(wanted) < len(page):
                    return

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        """Return the paths of the folders directly in a folder, sorted.

        A bounded number takes one request of our own. Without a bound, or where that request fails, obstore
        lists all and reports the error.
        """
        if most <= MOST_FOLDERS:
            with self._requests.translated():
                names = await self._requests.first_folders(folder, after, most)
            if names is not None:
                paths = [f"{folder}/{name}" if folder else name for name in names]
                return [path for path in paths if not path.startswith(".")]
        with self._requests.translated():
            client = await self._requests.client()
            found = await obstore.list_with_delimiter_async(client, prefix=folder or None)
        paths = sorted(path for path in found["common_prefixes"] if not path.startswith("."))
        return [path for path in paths if path.rpartition("/")[2] > after][:most]

    async def copies(self, folder: str) -> AsyncIterator[Copy]:
        """Yield all objects under a folder; all versions of them where the bucket keeps any."""
        async with aclosing(self._copies.under(folder)) as found:
            async for copy in found:
                yield copy

    async def remove_copies(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        """Remove objects, or versions of them."""
        return await self._copies.remove(copies)

    async def link(self, key: str, valid_s: int) -> str | None:
        """Return a presigned address of an object."""
        with self._requests.translated():
            client = await self._requests.client()
            return await obstore.sign_async(client, "GET", key, timedelta(seconds=valid_s))

    async def _known(
        self, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        """Return an object's type and metadata; of a face copied here from a folder those of its `.json`."""
        if "id" in metadata or parse_key(key) is None:
            return content_type, metadata
        try:
            found = await self._requests.get(sidecar.key_of(key), sidecar.MAX_BYTES)
            return sidecar.read(found.body)
        except (NoSuchObject, ValueError):
            return content_type, metadata

    async def _write(self, item: StoredObject, way: WriteOptions) -> bool:
        """Write an object; return False where the server says that it exists already."""
        try:
            e_tag = (await self._requests.put(item, way))["e_tag"]
        except FOREIGN as error:
            if s3_errors.is_existing(error):
                return False
            if not s3_errors.is_without_e_tag(error):
                await self._fail(error, item, way)
                return True
            e_tag = None
        if not is_digest(e_tag, item.body):
            await self._look_up(item, e_tag)
        return True

    async def _look_up(self, item: StoredObject, e_tag: str | None) -> None:
        """Return if the bucket holds an object although the answer to its write was in doubt.

        Raises:
            StoreUnavailable: it does not hold it, or cannot be asked.
        """
        told = f"{item.key} was answered with ETag {(e_tag or 'none')[:80]}, no digest of it"
        try:
            if not self._is_tag_digest and await self._has_tag(item, e_tag):
                return
            is_held = await self._is_held(item)
        except StoreUnavailable as error:
            raise StoreUnavailable("bad_answer", f"{told}; looking it up: {error}") from error
        if not is_held:
            what = "it cannot be looked up" if is_held is None else "it is not there"
            raise StoreUnavailable("bad_answer", f"{told}; {what}")

    async def _has_tag(self, item: StoredObject, e_tag: str | None) -> bool:
        """Say whether the object exists with this ETag and size; cheaper than reading it."""
        with suppress(*FOREIGN):
            found = await self._requests.head(item.key)
            return found["size"] == len(item.body) and is_same_tag(found["e_tag"], e_tag)
        return False

    async def _is_held(self, item: StoredObject) -> bool | None:
        """Say whether the bucket holds an object; None where it may not be read."""
        try:
            with self._requests.translated():
                found = await self._requests.get(item.key, len(item.body))
        except NoSuchObject:
            return False
        except StoreUnavailable as error:
            if error.reason == "forbidden":
                return None
            raise
        return found.body == item.body

    async def _fail(self, error: Exception, item: StoredObject, way: WriteOptions) -> None:
        """Raise why an object was not written.

        Raises:
            StoreUnavailable: unless the diagnosis has written the object.
        """
        failure = await self._diagnosis.diagnose(error, item, way)
        if failure is None:
            return
        if failure.reason == "rejected" and time.monotonic() - self._probed_at > PROBE_AGAIN_S:
            with suppress(StoreUnavailable):
                await self.verify()  # the bucket may want other headers by now
        raise unavailable(failure) from error
