"""Checks of settings and the store before a run starts anything."""

import asyncio
from collections.abc import Mapping
from typing import Any

from services.capture.settings import CaptureSettings
from services.common.errors import SetupError
from services.common.runtime.settings import BadSettings, read
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.detect.settings import DetectSettings
from services.forward.settings import ForwardSettings
from services.gallery.settings import GallerySettings
from services.store.settings import StoreSettings

TIMEOUT_S = 20.0
_BROKERS = {"local_mqtt_url": "mqtt://127.0.0.1:1", "cloud_mqtt_url": "mqtt://127.0.0.1:2"}
"""Placeholders for the run's brokers, whose ports are chosen last."""
PASSING = frozenset({"throttled", "conflict"})
"""Temporary reasons, after which the store is tried again."""


def check_settings(chosen: Mapping[str, str], *, has_gallery: bool) -> None:
    """Return if each service can read its settings.

    Args:
        chosen: settings that replace the environment's, by the names of their fields.
        has_gallery: whether the run has a gallery.

    Raises:
        BadSettings: some cannot be used; each problem is named once.
    """
    given: dict[str, Any] = {**_BROKERS, **chosen}
    problems: dict[str, None] = {}
    for settings in (CaptureSettings, DetectSettings, ForwardSettings, StoreSettings, GallerySettings):
        if settings is GallerySettings and not has_gallery:
            continue
        known = {name: value for name, value in given.items() if name in settings.model_fields}
        try:
            read(settings, **known)
        except BadSettings as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise BadSettings(list(problems))


async def check_store(url: str, called: str) -> None:
    """Return if the store can be written.

    Args:
        url: the store's URL.
        called: the user's name for it, for the message.

    Raises:
        SetupError: it cannot be written; the message is one line.
    """
    try:
        settings = read(ObjectStoreSettings, store_url=url)
        async with asyncio.timeout(TIMEOUT_S), open_store(settings) as objects:
            await _verify(objects)
    except (StoreUnavailable, TimeoutError) as error:
        raise SetupError(f"{called} cannot be written: {str(error) or 'no answer'}") from error


async def _verify(objects: ObjectStore) -> None:
    """Write a probe, and again while the store is only busy."""
    while True:
        try:
            await objects.verify()
        except StoreUnavailable as error:
            if error.reason not in PASSING:
                raise
            await asyncio.sleep(1.0)
        else:
            return
