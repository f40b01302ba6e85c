"""Stores as commands use them: named on a command line, and asked again where they do not answer."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from services.common.errors import SetupError
from services.common.runtime.concurrency import Backoff
from services.common.runtime.settings import problems_in
from services.common.storage.locations import DEFAULT_STORE, Folder, parse_location, store_url
from services.common.storage.objects import StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings

T = TypeVar("T")


def settings_of(store: str) -> ObjectStoreSettings:
    """Return how a store is reached, given as a URL or a folder's path; the rest is in the environment.

    Raises:
        SetupError: it cannot be one.
    """
    try:
        return ObjectStoreSettings(store_url=store_url(store))
    except ValidationError as error:
        raise SetupError("; ".join(problems_in(error))) from error


def chosen(named: str | None) -> ObjectStoreSettings:
    """Return how the store is reached that is named, else FACEFERRY_STORE_URL, else where `up` puts faces.

    Raises:
        SetupError: it cannot be one.
    """
    return settings_of(named or os.environ.get("FACEFERRY_STORE_URL") or DEFAULT_STORE)


def to_read(named: str | None) -> ObjectStoreSettings:
    """Return how the store is reached that is named, or meant where none is; none is made.

    Raises:
        SetupError: it cannot be one, or there is no such folder; says where that was looked for.
    """
    settings = chosen(named)
    if (path := missing_folder(settings.store_url)) is None:
        return settings
    if named or os.environ.get("FACEFERRY_STORE_URL"):
        raise SetupError(f"{'--store' if named else 'FACEFERRY_STORE_URL'}: there is no folder {path}")
    raise SetupError(
        f"there are no faces here: there is no folder {path}; `faceferry up` keeps them in "
        f"{DEFAULT_STORE} of the folder that it is run in. "
        "Go there, or name the place with --store or FACEFERRY_STORE_URL"
    )


def missing_folder(url: str) -> Path | None:
    """Return a store's folder that is not there, or None where it is there, or the store is a bucket."""
    location = parse_location(url)
    return location.path if isinstance(location, Folder) and not location.path.is_dir() else None


async def patiently(request: Callable[[], Awaitable[T]], retries: int, backoff: Backoff) -> T:
    """Do a request, and again where the store did not answer: there are so many that some fail.

    Raises:
        StoreUnavailable: it did not the last time, either.
    """
    for _ in range(retries):
        with contextlib.suppress(StoreUnavailable):
            return await request()
        await asyncio.sleep(backoff.next_s())
    return await request()
