"""Stores as users name them."""

from services.common.errors import SetupError
from services.common.places import file_url
from services.common.storage.locations import parse_location

DEFAULT_STORE = "faceferry-data/faces"
"""Where `up` puts faces."""


def store_url(store: str) -> str:
    """Return the URL of a store given as one or as a folder's path.

    Raises:
        SetupError: it cannot be one; one line that says why.
    """
    try:
        url = store if "://" in store else file_url(store)
        parse_location(url)
    except ValueError as error:
        raise SetupError(f"the store {store!a} cannot be used: {error}") from error
    return url
