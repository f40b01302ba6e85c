"""What is checked before anything is started."""

import asyncio

from pydantic import ValidationError

from services.common.errors import SetupError
from services.common.settings import explain
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings

TIMEOUT_S = 20.0
PASSING = frozenset({"throttled", "conflict"})
"""What a store says of this moment, and not of itself."""


async def check_store(url: str) -> None:
    """Return if the store can be written.

    Raises:
        SetupError: it cannot; one line that says why.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S), open_store(ObjectStoreSettings(store_url=url)) as objects:
            await _verify(objects)
    except ValidationError as error:
        raise SetupError("; ".join(explain(dict(problem)) for problem in error.errors())) from error
    except (StoreUnavailable, TimeoutError) as error:
        raise SetupError(f"--store {url} cannot be written: {str(error) or 'no answer'}") from error


async def _verify(objects: ObjectStore) -> None:
    """Write a probe, and once more where the store has only asked for a moment."""
    while True:
        try:
            await objects.verify()
        except StoreUnavailable as error:
            if error.reason not in PASSING:
                raise
            await asyncio.sleep(1.0)
        else:
            return
