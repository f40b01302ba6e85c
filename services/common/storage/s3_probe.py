"""What is found out of a bucket before it is given a face: whether it is one, and how it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common.storage import s3_errors
from services.common.storage.objects import PROBE, NoSuchObject, StoredObject, StoreUnavailable
from services.common.storage.s3_answers import is_digest, lost_attributes
from services.common.storage.s3_requests import FOREIGN, Requests, WriteOptions

_WAYS = (
    WriteOptions("overwrite"),
    WriteOptions("overwrite", has_checksum=False),
    # A policy may let nobody write without the condition.
    WriteOptions("create"),
    WriteOptions("create", has_checksum=False),
)
_PASSING = frozenset({"unreachable", "timeout", "throttled", "server_error", "conflict", "no_credentials"})


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe has shown.

    Attributes:
        way: how to write.
        is_tag_digest: whether an ETag is the MD5 of what was written.
        is_readable: whether objects can be read.
        lost: what the server does not keep of an object's metadata.
    """

    way: WriteOptions
    is_tag_digest: bool
    is_readable: bool
    lost: Sequence[str]


async def probe(requests: Requests) -> ProbeResult:
    """Write the probe in the best way that the server takes, and read it back.

    Raises:
        StoreUnavailable: the server does not do what a bucket does; also one of `FOREIGN`.
    """
    way, e_tag = await _find_way(requests)
    is_tag_digest = is_digest(e_tag, PROBE.body)
    if way.mode == "overwrite" and await _is_condition_honoured(requests, replace(way, mode="create")):
        way = replace(way, mode="create")
    found = await _read_back(requests, is_tag_digest=is_tag_digest)
    return ProbeResult(way, is_tag_digest, found is not None, _lost(found) if found is not None else ())


async def _find_way(requests: Requests) -> tuple[WriteOptions, str | None]:
    """Return the first way that the server takes, with the ETag that it gave."""
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
    """Ask for the best way again: what refused it may have been a passing trouble."""
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
            return None  # whether it is there is seen when it is read
        raise


async def _is_condition_honoured(requests: Requests, way: WriteOptions) -> bool:
    """Say whether the server refuses to create what is there already.

    Many refuse the condition itself, each with a status of its own.
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
            return None  # who says the digest has the body
        if why == "forbidden":
            told = "its ETags are no digests, so that what it stores has to be looked up (s3:GetObject)"
            raise StoreUnavailable(why, f"{detail}: {told}") from error
        # Where the write's answer was in doubt, nothing but the object ends the doubt.
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
