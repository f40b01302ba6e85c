"""Finds out, before the first face, whether a server is a bucket and how it accepts writes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common.storage import s3_errors
from services.common.storage.objects import PROBE, NoSuchObject, StoredObject, StoreUnavailable
from services.common.storage.s3_answers import is_digest, lost_attributes
from services.common.storage.s3_requests import FOREIGN, Requests, WriteOptions

_WAYS = (
    WriteOptions("overwrite"),
    WriteOptions("overwrite", has_checksum=False),
    # A policy may demand the condition of every write.
    WriteOptions("create"),
    WriteOptions("create", has_checksum=False),
)
_PASSING = frozenset({"unreachable", "timeout", "throttled", "server_error", "conflict", "no_credentials"})


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe.

    Attributes:
        way: how objects are written.
        is_tag_digest: whether an ETag is the MD5 of the body.
        is_readable: whether objects can be read.
        lost: names of metadata that the server does not keep.
    """

    way: WriteOptions
    is_tag_digest: bool
    is_readable: bool
    lost: Sequence[str]


async def probe(requests: Requests) -> ProbeResult:
    """Write the probe in the best way that the server accepts, and read it back.

    Raises:
        StoreUnavailable: the server does not behave as a bucket.
        FOREIGN: a request failed.
    """
    way, e_tag = await _find_way(requests)
    is_tag_digest = is_digest(e_tag, PROBE.body)
    if way.mode == "overwrite" and await _is_condition_honoured(requests, replace(way, mode="create")):
        way = replace(way, mode="create")
    found = await _read_back(requests, is_tag_digest=is_tag_digest)
    return ProbeResult(way, is_tag_digest, found is not None, _lost(found) if found is not None else ())


async def _find_way(requests: Requests) -> tuple[WriteOptions, str | None]:
    """Return the first way that the server accepts, with the ETag that it gave."""
    first: Exception | None = None
    for way in _WAYS:
        try:
            e_tag = await _write(requests, way)
        except FOREIGN as error:
            if not s3_errors.may_another_way_help(error):
                raise
            first = first or error
        else:
            return (way, e_tag) if first is None else await _best_after_all(requests, way, e_tag)
    assert first is not None
    raise first


async def _best_after_all(
    requests: Requests, way: WriteOptions, e_tag: str | None
) -> tuple[WriteOptions, str | None]:
    """Try the best way again: the failure may have been temporary."""
    try:
        return _WAYS[0], await _write(requests, _WAYS[0])
    except FOREIGN:
        return way, e_tag


async def _write(requests: Requests, way: WriteOptions) -> str | None:
    try:
        return (await requests.put(PROBE, way))["e_tag"]
    except FOREIGN as error:
        is_there = way.mode == "create" and s3_errors.is_existing(error)
        if is_there or s3_errors.is_without_e_tag(error):
            return None  # reading it back shows whether it is there
        raise


async def _is_condition_honoured(requests: Requests, way: WriteOptions) -> bool:
    """Say whether the server refuses to create an object that exists.

    Many refuse the condition itself, with various statuses.
    """
    try:
        await requests.put(PROBE, way)
    except FOREIGN as error:
        if s3_errors.is_existing(error):
            return True
        if not (s3_errors.may_another_way_help(error) or s3_errors.is_without_e_tag(error)):
            raise
    return False


async def _read_back(requests: Requests, *, is_tag_digest: bool) -> StoredObject | None:
    try:
        found = await requests.get(PROBE.key, len(PROBE.body))
    except NoSuchObject as error:
        raise StoreUnavailable("bad_answer", "the probe was taken, and is not there") from error
    except FOREIGN as error:
        why, detail = s3_errors.reason(error), requests.detail(error)
        if why == "forbidden" and is_tag_digest:
            return None  # a server that gives the digest has the body
        if why == "forbidden":
            told = "its ETags are no digests, so that what it stores has to be looked up (s3:GetObject)"
            raise StoreUnavailable(why, f"{detail}: {told}") from error
        # Where the answer to the write was in doubt only reading the object can settle it.
        is_passing = is_tag_digest and why in _PASSING
        raise StoreUnavailable(why if is_passing else "bad_answer", detail) from error
    if found.body != PROBE.body:
        what = f"{len(found.body)} bytes of {found.content_type[:60]}"
        raise StoreUnavailable("bad_answer", f"the probe was taken, and came back as {what}")
    return found


def _lost(found: StoredObject) -> Sequence[str]:
    lost = lost_attributes(PROBE, found)
    if lost is None:
        told = f"{found.content_type[:60]} with {str(dict(found.metadata))[:200]}"
        raise StoreUnavailable("bad_answer", f"the probe's metadata came back as {told}")
    return sorted(lost)
