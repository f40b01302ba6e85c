"""A bucket's own rules about what goes when: read, written, and read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from services.common.retention import Retention
from services.common.storage.lifecycle import Rule, Wanted, clashes, is_kept, rules_for, wanted
from services.common.storage.locations import Bucket
from services.common.storage.objects import StoreUnavailable
from services.common.storage.s3_admin import NotOffered, admin, code_of, translated
from services.common.storage.s3_client import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_NO_RULES = "NoSuchLifecycleConfiguration"
_NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})
_TRANSITION_SIZE = "TransitionDefaultMinimumObjectSize"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a bucket says of itself.

    Attributes:
        wanted: what its rules should be; nothing where the server has no life-cycle rules.
        is_versioned: whether it keeps what is deleted or replaced.
        locked_days: for how long Object Lock keeps each version by default; 0 where it does not.
        clashes: what others' rules do to our faces that is not wanted.
        extra: what has to be said again when the rules are written.
    """

    wanted: Wanted | None
    is_versioned: bool
    locked_days: int
    clashes: tuple[str, ...]
    extra: dict[str, Any]


async def look(bucket: Bucket, access: S3Settings, retention: Retention) -> Rules:
    """Return what a bucket's rules are and should be.

    Raises:
        StoreUnavailable: it does not let itself be asked.
    """
    async with admin(access) as client:
        return await _look(client, bucket, retention)


async def apply(bucket: Bucket, access: S3Settings, retention: Retention) -> Rules:
    """Make a bucket's rules what they should be, read them back, and return them; others' rules stay.

    Raises:
        StoreUnavailable: it does not let them be read or written; or, `bad_answer`, says afterwards that they
            are other than what it took.
    """
    async with admin(access) as client:
        before = await _look(client, bucket, retention)
        if before.wanted is None or before.wanted.is_so:
            return before
        await _write(client, bucket, before.wanted.rules, before.extra)
        after = await _look(client, bucket, retention)
    if after.wanted is None or not after.wanted.is_so:
        raise StoreUnavailable("bad_answer", "the rules that were written are not those that are read back")
    if not is_kept(before.wanted.foreign, after.wanted.foreign):
        raise StoreUnavailable("bad_answer", "rules of others have changed while ours were written")
    return after


async def _look(client: "S3Client", bucket: Bucket, retention: Retention) -> Rules:
    is_versioned = await _is_versioned(client, bucket)
    locked_days = await _locked_days(client, bucket)
    ours = rules_for(bucket.prefix, retention, is_versioned=is_versioned)
    try:
        found, extra = await _read(client, bucket)
    except NotOffered:
        return Rules(None, is_versioned, locked_days, (), {})
    target = wanted(found, ours, bucket.prefix)
    said = tuple(clashes(target.foreign, bucket.prefix, retention))
    return Rules(target, is_versioned, locked_days, said, extra)


async def _read(client: "S3Client", bucket: Bucket) -> tuple[list[Rule], dict[str, Any]]:
    with translated():
        try:
            found = await client.get_bucket_lifecycle_configuration(Bucket=bucket.name)
        except ClientError as error:
            if code_of(error) == _NO_RULES:
                return [], {}
            raise
    said: Mapping[str, Any] = cast("Any", found)
    extra = {_TRANSITION_SIZE: said[_TRANSITION_SIZE]} if _TRANSITION_SIZE in said else {}
    return list(said.get("Rules", [])), extra


async def _write(client: "S3Client", bucket: Bucket, rules: list[Rule], extra: dict[str, Any]) -> None:
    with translated():
        if rules:
            await client.put_bucket_lifecycle_configuration(
                Bucket=bucket.name, LifecycleConfiguration=cast("Any", {"Rules": rules}), **extra
            )
        else:
            await client.delete_bucket_lifecycle(Bucket=bucket.name)


async def _is_versioned(client: "S3Client", bucket: Bucket) -> bool:
    try:
        with translated():
            found = await client.get_bucket_versioning(Bucket=bucket.name)
    except NotOffered:
        return False
    return found.get("Status") in ("Enabled", "Suspended")


async def _locked_days(client: "S3Client", bucket: Bucket) -> int:
    try:
        with translated():
            try:
                found = await client.get_object_lock_configuration(Bucket=bucket.name)
            except ClientError as error:
                if code_of(error) in _NO_LOCK:
                    return 0
                raise
    except NotOffered:
        return 0
    by_default = found.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    return by_default.get("Days", 0) + 365 * by_default.get("Years", 0)
