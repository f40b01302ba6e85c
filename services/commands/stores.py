"""Stores as people name them on a command line."""

from pydantic import ValidationError

from services.common.errors import SetupError
from services.common.settings import explain
from services.common.storage.settings import ObjectStoreSettings
from services.up.plan import store_url


def settings_of(store: str) -> ObjectStoreSettings:
    """Return how a store is reached, given as a URL or a folder's path; the rest is in the environment.

    Raises:
        SetupError: it cannot be one.
    """
    try:
        return ObjectStoreSettings(store_url=store_url(store))
    except ValidationError as error:
        raise SetupError("; ".join(explain(dict(problem)) for problem in error.errors())) from error
