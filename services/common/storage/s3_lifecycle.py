"""Life-cycle rules of a bucket: our own, and what they should be; read, written, and read back."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from services.common.retention import Retention
from services.common.storage.index.rows import ROOT as INDEX
from services.common.storage.keys import day_folder
from services.common.storage.locations import Bucket
from services.common.storage.objects import StoreUnavailable
from services.common.storage.s3_admin import NotOffered, admin, code_of, translated
from services.common.storage.s3_client import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client


Rule = Mapping[str, Any]

NONCURRENT_DAYS = 1
"""Days after which S3 removes a replaced or deleted version: the least that it allows."""


@dataclass(frozen=True, slots=True)
class RulePlan:
    """The rules that a bucket should have.

    Attributes:
        ours: our own rules; empty where faces are kept for ever.
        foreign: rules of others, unchanged.
        is_so: whether the bucket has them already.
    """

    ours: tuple[Rule, ...]
    foreign: tuple[Rule, ...]
    is_so: bool

    @property
    def rules(self) -> list[Rule]:
        """All rules: S3 replaces them together."""
        return [*self.foreign, *self.ours]


def faces_prefix(prefix: str) -> str:
    """Return the prefix of all keys of faces in a store with this prefix."""
    return f"{prefix}/{day_folder('')}" if prefix else day_folder("")


def index_prefix(prefix: str) -> str:
    """Return the prefix of all keys of the index in a store with this prefix."""
    return faces_prefix(f"{prefix}/{INDEX}" if prefix else INDEX)


def rules_for(prefix: str, retention: Retention, *, is_versioned: bool) -> tuple[Rule, ...]:
    """Return our rules for a prefix.

    S3 counts from when an object was written, so that no younger one is removed. Where versions are kept an
    expired object is only marked; its versions go a day later, and then the mark.
    """
    if retention.days is None:
        return ()
    name = f"faceferry-{hashlib.sha256(prefix.encode()).hexdigest()[:12]}"
    rules: list[Rule] = []
    for what, keys in (("faces", faces_prefix(prefix)), ("index", index_prefix(prefix))):
        common = {"Status": "Enabled", "Filter": {"Prefix": keys}}
        rules.append({"ID": f"{name}-{what}", **common, "Expiration": {"Days": retention.days}})
        if is_versioned:
            rules.append(
                {
                    "ID": f"{name}-{what}-versions",
                    **common,
                    "Expiration": {"ExpiredObjectDeleteMarker": True},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
                }
            )
    return tuple(rules)


def plan_rules(found: Sequence[Rule], ours: Sequence[Rule], prefix: str) -> RulePlan:
    """Return the rules that a bucket should have, given the rules that it has and our own."""
    name = f"faceferry-{hashlib.sha256(prefix.encode()).hexdigest()[:12]}-"
    foreign = tuple(rule for rule in found if not str(rule.get("ID", "")).startswith(name))
    mine = [rule for rule in found if rule not in foreign]
    return RulePlan(tuple(ours), foreign, _gist(mine) == _gist(ours))


def is_kept(before: Sequence[Rule], after: Sequence[Rule]) -> bool:
    """Say whether rules of others are unchanged."""
    return sorted(map(_canonical, before)) == sorted(map(_canonical, after))


def clashes(foreign: Sequence[Rule], prefix: str, retention: Retention) -> list[str]:
    """Return, in words, how rules of others affect our faces against the retention."""
    said = []
    for rule in foreign:
        if rule.get("Status") != "Enabled" or not _meets(_prefix_of(rule), faces_prefix(prefix)):
            continue
        name = str(rule.get("ID") or "a rule without a name")[:80]
        days = rule.get("Expiration", {}).get("Days")
        if days is not None and (retention.days is None or days < retention.days):
            said.append(f"{name}: lets faces go after {days} days, before their time")
        elif "Date" in rule.get("Expiration", {}):
            said.append(f"{name}: lets faces go at a certain date")
        if rule.get("Transitions") or rule.get("NoncurrentVersionTransitions"):
            said.append(f"{name}: moves faces to another storage class, which may bill them for longer")
    return said


def _prefix_of(rule: Rule) -> str:
    found = rule.get("Filter", {})
    return str(rule.get("Prefix") or found.get("Prefix") or found.get("And", {}).get("Prefix") or "")


def _meets(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _gist(rules: Sequence[Rule]) -> list[tuple[object, ...]]:
    """Return the relevant parts of our rules: servers add defaults and write filters in several ways."""
    return sorted(
        (
            str(rule.get("ID")),
            rule.get("Status"),
            _prefix_of(rule),
            rule.get("Expiration", {}).get("Days"),
            bool(rule.get("Expiration", {}).get("ExpiredObjectDeleteMarker")),
            rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        )
        for rule in rules
    )


def _canonical(rule: Rule) -> str:
    filled = {name: value for name, value in rule.items() if value not in ({}, [], None, "")}
    return repr(_ordered(filled))


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        return [(name, _ordered(value[name])) for name in sorted(value)]
    return [_ordered(each) for each in value] if isinstance(value, list) else value


_NO_RULES = "NoSuchLifecycleConfiguration"
_NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})
_TRANSITION_SIZE = "TransitionDefaultMinimumObjectSize"


@dataclass(frozen=True, slots=True)
class BucketRules:
    """The settings of a bucket that concern retention.

    Attributes:
        plan: the rules that it should have; None where the server has no life-cycle rules.
        is_versioned: whether it keeps deleted and replaced versions.
        locked_days: days that Object Lock keeps each version by default; 0 without it.
        clashes: how rules of others affect our faces, in words.
        extra: arguments to repeat when the rules are written.
    """

    plan: RulePlan | None
    is_versioned: bool
    locked_days: int
    clashes: tuple[str, ...]
    extra: dict[str, Any]


async def read_rules(bucket: Bucket, access: S3Settings, retention: Retention) -> BucketRules:
    """Return a bucket's settings and the rules that it should have.

    Raises:
        StoreUnavailable: they cannot be read.
    """
    async with admin(access) as client:
        return await _look(client, bucket, retention)


async def apply_rules(bucket: Bucket, access: S3Settings, retention: Retention) -> BucketRules:
    """Write the rules that a bucket should have, read them back, and return them; rules of others stay.

    Raises:
        StoreUnavailable: they cannot be read or written; `bad_answer`: they are different when read back.
    """
    async with admin(access) as client:
        before = await _look(client, bucket, retention)
        if before.plan is None or before.plan.is_so:
            return before
        await _write(client, bucket, before.plan.rules, before.extra)
        after = await _look(client, bucket, retention)
    if after.plan is None or not after.plan.is_so:
        raise StoreUnavailable("bad_answer", "the rules that were written are not those that are read back")
    if not is_kept(before.plan.foreign, after.plan.foreign):
        raise StoreUnavailable("bad_answer", "rules of others have changed while ours were written")
    return after


async def _look(client: "S3Client", bucket: Bucket, retention: Retention) -> BucketRules:
    is_versioned = await _is_versioned(client, bucket)
    locked_days = await _locked_days(client, bucket)
    ours = rules_for(bucket.prefix, retention, is_versioned=is_versioned)
    try:
        found, extra = await _read(client, bucket)
    except NotOffered:
        return BucketRules(None, is_versioned, locked_days, (), {})
    target = plan_rules(found, ours, bucket.prefix)
    said = tuple(clashes(target.foreign, bucket.prefix, retention))
    return BucketRules(target, is_versioned, locked_days, said, extra)


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
