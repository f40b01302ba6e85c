"""The name of the group in which replicas of the store share the faces.

A broker gives each face to one member of a group, and not every broker asks its rules whether somebody may
be a member: Mosquitto does not. A member that may not read has its share dropped. So the name is one that the
replicas know, and no device.
"""

import hmac
from pathlib import Path

from services.common.wire import bare_topics
from services.store.settings import StoreSettings

PLAIN = "store"
"""Where the store has no secret, for its broker lets anybody read."""

_DOMAIN = b"faceferry: the group of the store's replicas, 1"


def share(settings: StoreSettings) -> list[str]:
    """Return the store's topic filters as those of a shared subscription.

    Raises:
        OSError: the key's file cannot be read.
    """
    group = _group(settings)
    return [f"$share/{group}/{bare_topics.parse(text).filter}" for text in settings.store_topics]


def derive(secret: bytes) -> str:
    """Return the name that whoever knows the secret knows, and which tells nothing of the secret."""
    return hmac.digest(secret, _DOMAIN, "sha256").hex()


def _group(settings: StoreSettings) -> str:
    if settings.store_group is not None:
        return settings.store_group.get_secret_value()
    if settings.cloud_key_file is not None:
        return derive(_key(settings.cloud_key_file))
    if settings.cloud_mqtt_password is not None:
        return derive(settings.cloud_mqtt_password.get_secret_value().encode())
    return PLAIN


def _key(path: Path) -> bytes:
    """Return a key as it stands in its file, however the lines end that a copy has."""
    return b"".join(path.read_bytes().split())
