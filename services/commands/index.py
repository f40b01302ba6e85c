import argparse
import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta

from services.commands.stores import patiently, to_read
from services.common.errors import SetupError
from services.common.runtime.arguments import day, whole
from services.common.runtime.concurrency import Backoff
from services.common.storage import keys
from services.common.storage.backends import open_store
from services.common.storage.index import repairs
from services.common.storage.index.reading import Index
from services.common.storage.index.repairs import Repaired
from services.common.storage.objects import StoreUnavailable, WholeStore
from services.common.storage.settings import ObjectStoreSettings

RETRIES = 4
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0
MOST_DAYS = 36_500

Work = Callable[[WholeStore, date], Awaitable[Repaired]]
"""Does something to a day of the index."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry index`."""
    parser.description = (
        "The index says which faces are stored, hour by hour, as Parquet below index/. Without an option "
        "this says what is in it."
    )
    parser.add_argument("--store", metavar="URL_OR_PATH", help="as for `faceferry faces`")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--tidy", action="store_true", help="make one file of each hour's; the keys are not looked at"
    )
    what.add_argument(
        "--repair",
        action="store_true",
        help="make it true to the keys, which are listed: what is missing is added, what is not stored is "
        "taken out, of each hour there is one file",
    )
    what.add_argument(
        "--rebuild", action="store_true", help="as --repair, and believe nothing that the index says"
    )
    parser.add_argument(
        "--keys-only",
        action="store_true",
        help="ask no object what it says of itself (its visit), which is a request for each face that is not "
        "known yet",
    )
    parser.add_argument("--from", type=day, metavar="DAY", dest="first", help="YYYY-MM-DD, UTC; default: all")
    parser.add_argument("--to", type=day, metavar="DAY", dest="last", help="the last day; default: all")
    parser.add_argument(
        "--days", type=whole(1, MOST_DAYS), metavar="N", help="the last N days, today among them"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tidy, repair or rebuild the index, or print what is in it.

    Raises:
        SetupError: the days are contradictory, or the store cannot be used.
    """
    if options.first and options.last and options.first > options.last:
        raise SetupError(f"--from {options.first} is after --to {options.last}")
    settings = to_read(options.store)
    try:
        asyncio.run(_each_day(settings, options, _work(options)))
    except StoreUnavailable as error:
        raise SetupError(f"{settings.store_url} cannot be read or written: {error}") from error
    return 0


def _work(options: argparse.Namespace) -> Work:
    async def repair(store: WholeStore, day: date) -> Repaired:
        return await repairs.repair(store, day, is_trusted=not options.rebuild, may_ask=not options.keys_only)

    if options.repair or options.rebuild:
        return repair
    return repairs.tidy if options.tidy else _look


async def _look(store: WholeStore, day: date) -> Repaired:
    files = [file for hour in await Index(store).hours(day) for file in await Index(store).files(hour.folder)]
    return Repaired(faces=sum(file.count for file in files), files=len(files))


async def _each_day(settings: ObjectStoreSettings, options: argparse.Namespace, work: Work) -> None:
    async with open_store(settings) as store:
        days = await _days(store, options)
        if not days:
            print(f"there is no day with faces in {settings.store_url}", file=sys.stderr)
        for day in days:
            # What is done by the time that the store does not answer need not be done again.
            done = await patiently(
                functools.partial(work, store, day), RETRIES, Backoff(FIRST_RETRY_S, LAST_RETRY_S)
            )
            print(_line(day, done))


async def _days(store: WholeStore, options: argparse.Namespace) -> Sequence[date]:
    """Return the days in the range that have faces or rows of the index."""
    first, last = options.first or date.min, options.last or date.max
    if options.days is not None:
        first = max(first, datetime.now(UTC).date() - timedelta(days=options.days - 1))
    stored = {day for path in await store.folders("") if (day := keys.day_in(path)) is not None}
    return sorted(day for day in {*stored, *await Index(store).days()} if first <= day <= last)


def _line(day: date, done: Repaired) -> str:
    changes = f", {done.added} added, {done.dropped} dropped" if done.added or done.dropped else ""
    removed = f", {len(done.removed)} replaced" if done.removed else ""
    return f"{day} {done.faces:>9} faces in {done.files} files{changes}{removed}"
