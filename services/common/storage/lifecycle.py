"""Life-cycle rules of a bucket: which are ours, what they should say, what others say.

No bucket is asked here. A rule is a dictionary as aioboto3 reads and writes it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.retention import Retention
from services.common.storage.index.names import ROOT as INDEX
from services.common.storage.keys import day_folder

Rule = Mapping[str, Any]

NONCURRENT_DAYS = 1
"""A version that was replaced or deleted goes as soon as S3 lets it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a bucket's rules should be.

    Attributes:
        ours: our own rules, none where faces are kept for ever.
        foreign: those of others, as they are.
        is_so: whether they are so already.
    """

    ours: tuple[Rule, ...]
    foreign: tuple[Rule, ...]
    is_so: bool

    @property
    def rules(self) -> list[Rule]:
        """All of them: S3 takes them together or not at all."""
        return [*self.foreign, *self.ours]


def faces_prefix(prefix: str) -> str:
    """Return what all keys of faces begin with, under the store's prefix."""
    return f"{prefix}/{day_folder('')}" if prefix else day_folder("")


def index_prefix(prefix: str) -> str:
    """Return what all keys of the index begin with, under the store's prefix."""
    return faces_prefix(f"{prefix}/{INDEX}" if prefix else INDEX)


def rules_for(prefix: str, retention: Retention, *, is_versioned: bool) -> tuple[Rule, ...]:
    """Return our rules for a prefix.

    S3 counts from when an object was written, so they never take what is younger. Where versions are kept an
    object that goes is only marked; its versions go a day later, and a mark without versions then.
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


def wanted(found: Sequence[Rule], ours: Sequence[Rule], prefix: str) -> Wanted:
    """Return what the rules should be, given those that there are and those that we want."""
    name = f"faceferry-{hashlib.sha256(prefix.encode()).hexdigest()[:12]}-"
    foreign = tuple(rule for rule in found if not str(rule.get("ID", "")).startswith(name))
    mine = [rule for rule in found if rule not in foreign]
    return Wanted(tuple(ours), foreign, _gist(mine) == _gist(ours))


def is_kept(before: Sequence[Rule], after: Sequence[Rule]) -> bool:
    """Say whether rules of others are what they were."""
    return sorted(map(_canonical, before)) == sorted(map(_canonical, after))


def clashes(foreign: Sequence[Rule], prefix: str, retention: Retention) -> list[str]:
    """Return what others' rules do to our faces that is not wanted, in words."""
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
    """Return what counts of our rules: servers add defaults, and spell filters in several ways."""
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
