"""Stores of commands: named on the command line or by default, and requests with retries."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from services.common.errors import SetupError
from services.common.runtime.concurrency import Backoff
from services.common.runtime.settings import read
from services.common.storage.locations import DEFAULT_STORE, FolderLocation, parse_location, store_url
from services.common.storage.objects import StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings

T = TypeVar("T")


def settings_of(store: str) -> ObjectStoreSettings:
    """Return the settings of a store given as a URL or a folder's path; the rest is in the environment.

    Raises:
        SetupError: it cannot be used.
    """
    return read(ObjectStoreSettings, store_url=store_url(store))


def chosen(named: str | None) -> ObjectStoreSettings:
    """Return the settings of the named store, else FACEFERRY_STORE_URL, else the one of `up`.

    Raises:
        SetupError: it cannot be used.
    """
    return settings_of(named or os.environ.get("FACEFERRY_STORE_URL") or DEFAULT_STORE)


def to_read(named: str | None) -> ObjectStoreSettings:
    """Return the settings of an existing store: the named one or the default; see `chosen`.

    Raises:
        SetupError: it cannot be used, or its folder does not exist.
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
    """Return a store's folder if it does not exist, else None; None for a bucket."""
    location = parse_location(url)
    return location.path if isinstance(location, FolderLocation) and not location.path.is_dir() else None


async def patiently(request: Callable[[], Awaitable[T]], retries: int, backoff: Backoff) -> T:
    """Do a request, with retries where the store does not answer.

    Raises:
        StoreUnavailable: the last retry failed, too.
    """
    for _ in range(retries):
        with contextlib.suppress(StoreUnavailable):
            return await request()
        await asyncio.sleep(backoff.next_s())
    return await request()
