"""Stores as people name them on a command line."""

import os

from pydantic import ValidationError

from services.common.errors import SetupError
from services.common.settings import explain
from services.common.storage.addresses import DEFAULT_STORE, store_url
from services.common.storage.settings import ObjectStoreSettings


def settings_of(store: str) -> ObjectStoreSettings:
    """Return how a store is reached, given as a URL or a folder's path; the rest is in the environment.

    Raises:
        SetupError: it cannot be one.
    """
    try:
        return ObjectStoreSettings(store_url=store_url(store))
    except ValidationError as error:
        raise SetupError("; ".join(explain(dict(problem)) for problem in error.errors())) from error


def chosen(named: str | None) -> ObjectStoreSettings:
    """Return how the store is reached that is named, else FACEFERRY_STORE_URL, else where `up` puts faces.

    Raises:
        SetupError: it cannot be one.
    """
    return settings_of(named or os.environ.get("FACEFERRY_STORE_URL") or DEFAULT_STORE)
