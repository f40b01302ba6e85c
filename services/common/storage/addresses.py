"""Stores as users name them, and where a run on this machine keeps what is on its way to one."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

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


def state_folder(url: str, environment: Mapping[str, str]) -> Path:
    """Return the folder of the runs into one store.

    Raises:
        SetupError: nobody knows where this user is at home.
    """
    try:
        home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise SetupError(
            "neither XDG_STATE_HOME nor HOME is set: a run has to keep faces somewhere"
        ) from None
    return Path(home) / "faceferry" / f"up-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
