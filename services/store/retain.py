"""Checks and enforces for how long faces are kept: `python3 -m services.store.retain`.

This is the command in the store's image; elsewhere it is `faceferry retain`.
"""

import argparse
import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime

from services.common.errors import SetupError
from services.common.retention import Retention
from services.common.runtime.arguments import checked
from services.common.runtime.settings import read
from services.common.runtime.shared_settings import RetentionSettings, checked_days
from services.common.storage.backends import open_store
from services.common.storage.index.rows import ROOT as INDEX
from services.common.storage.locations import Bucket, parse_location
from services.common.storage.objects import StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.store.sweep import Swept, overdue, sweep


class RetainSettings(RetentionSettings, ObjectStoreSettings):
    """The bucket or folder, and for how long faces are kept in it."""


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare the command line.

    Args:
        parser: to add the arguments to.
        default: for the help, in words: the store that is used where `--store` is not given.
    """
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--check",
        action="store_true",
        help="report what is so, and what is not as it should be (status 1)",
    )
    what.add_argument(
        "--apply", action="store_true", help="enforce it: write the bucket's rules, remove what is too old"
    )
    parser.add_argument("--store", metavar="URL_OR_PATH", help=f"default: {default}")
    parser.add_argument(
        "--days",
        type=checked(checked_days),
        metavar="DAYS",
        help="for how long, or forever; default: FACEFERRY_RETAIN_DAYS",
    )


def run(options: argparse.Namespace, store_url: str | None) -> int:
    """Check or apply, and print what is found.

    Args:
        options: of `add_arguments`.
        store_url: the bucket or folder; None for FACEFERRY_STORE_URL.

    Returns:
        the exit status: 1 where something is not as it should be, else 0.

    Raises:
        SetupError: the store cannot be used, or it is not set for how long faces are kept.
    """
    settings = _settings(store_url, options.days)
    fine = _Findings()
    try:
        asyncio.run(_run(settings, fine, is_to_apply=options.apply))
    except StoreUnavailable as error:
        raise SetupError(f"{settings.store_url}: {error}") from error
    return 0 if fine.is_fine else 1


class _Findings:
    """Prints findings, as `faceferry doctor` does, and knows whether something needs repair."""

    def __init__(self) -> None:
        self.is_fine = True

    def ok(self, what: str, text: str) -> None:
        print(f"ok   {what:10} {text}")

    def note(self, what: str, text: str) -> None:
        print(f"note {what:10} {text}")

    def repair(self, what: str, text: str) -> None:
        print(f"FIX  {what:10} {text}")
        self.is_fine = False


def _settings(store_url: str | None, days: str | None) -> RetainSettings:
    given = {"store_url": store_url, "retain_days": days}
    settings = read(RetainSettings, **{name: value for name, value in given.items() if value is not None})
    if "retain_days" not in settings.model_fields_set:
        raise SetupError("FACEFERRY_RETAIN_DAYS (or --days) is not set: a number of days, or forever")
    return settings


async def _run(settings: RetainSettings, say: _Findings, *, is_to_apply: bool) -> None:
    retention = settings.retention
    say.ok("kept", f"{retention}, each face from when its frame was taken; {settings.store_url}")
    location = parse_location(settings.store_url)
    if isinstance(location, Bucket):
        await _rules(location, settings, say, is_to_apply=is_to_apply)
    elif not location.path.is_dir():
        raise SetupError(f"there is no folder {location.path}")
    else:
        say.ok("rules", "a folder has none: the store removes what is too old each hour while it runs")
    await _overdue(settings, say, is_to_apply=is_to_apply)


async def _rules(bucket: Bucket, settings: RetainSettings, say: _Findings, *, is_to_apply: bool) -> None:
    # Loaded only where there is a bucket: it takes a second.
    from services.common.storage import s3_lifecycle  # noqa: PLC0415
    from services.common.storage.s3_client import S3Settings  # noqa: PLC0415

    access = S3Settings(settings.s3_endpoint_url, settings.s3_path_style, settings.s3_timeout_s)
    retention = settings.retention
    found = await s3_lifecycle.read_rules(bucket, access, retention)
    if is_to_apply and found.plan is not None and not found.plan.is_so:
        found = await s3_lifecycle.apply_rules(bucket, access, retention)
        say.ok("rules", "written, and read back as they were written")
    if found.plan is None:
        say.ok("rules", "this server has none: the store removes what is too old each hour while it runs")
    elif found.plan.is_so:
        say.ok("rules", _rules_in_words(retention, is_versioned=found.is_versioned))
    else:
        say.repair("rules", "the bucket's rules are missing or differ: `faceferry retain --apply`")
    if found.plan is not None and found.plan.foreign:
        say.note("rules", f"{len(found.plan.foreign)} other rules in the bucket are left as they are")
    for clash in found.clashes:
        say.repair("rules", clash)
    if found.is_versioned:
        say.note("versions", "the bucket keeps them; those of faces are removed with the faces")
    _tell_of_lock(found.locked_days, retention, say)


def _rules_in_words(retention: Retention, *, is_versioned: bool) -> str:
    if retention.days is None:
        return "none of Faceferry's, as it should be"
    return f"a face is removed {retention} after it was written" + (
        ", a version a day later" if is_versioned else ""
    )


def _tell_of_lock(locked_days: int, retention: Retention, say: _Findings) -> None:
    if not locked_days:
        return
    if retention.days is not None and locked_days > retention.days:
        say.repair(
            "lock",
            f"Object Lock keeps each version for {locked_days} days, longer than faces are kept",
        )
    else:
        say.note("lock", f"Object Lock keeps each version for {locked_days} days")


async def _overdue(settings: RetainSettings, say: _Findings, *, is_to_apply: bool) -> None:
    now = datetime.now(UTC)
    async with open_store(settings, may_make_folder=False) as objects:
        if is_to_apply:
            _tell(await sweep(objects, settings.retention, now), say)
            return
        swept = Swept()
        async for copy in overdue(objects, settings.retention, now, swept):
            swept.removed[copy.key.removeprefix(f"{INDEX}/").partition("/")[0]] += 1
    if swept.removed:
        say.repair(
            "too old", f"{_in_words(swept.removed)}: `faceferry retain --apply`, or the store's next sweep"
        )
    else:
        say.ok("too old", "nothing is")
    _tell_of_foreign(swept, say)


def _tell(swept: Swept, say: _Findings) -> None:
    say.ok("too old", f"{_in_words(swept.removed)} removed" if swept.removed else "nothing was")
    for reason, copies in swept.refused.items():
        say.repair("too old", f"{copies} copies cannot be removed: {reason}")
    _tell_of_foreign(swept, say)


def _tell_of_foreign(swept: Swept, say: _Findings) -> None:
    if swept.foreign:
        say.note("too old", f"{swept.foreign} objects among them are no faces, and stay")


def _in_words(days: Counter[str]) -> str:
    first, last = min(days), max(days)
    when = first if first == last else f"{first} to {last}"
    return f"{days.total()} copies of faces of {when}"


def main() -> int:
    """Run the command for this store; return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m services.store.retain", description=__doc__)
    add_arguments(parser, "FACEFERRY_STORE_URL")
    options = parser.parse_args()
    try:
        return run(options, options.store)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
