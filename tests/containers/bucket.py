import asyncio
import os
from collections.abc import Mapping
from unittest.mock import patch

from services.common.storage.backends import open_store
from services.common.storage.listing import newest_first
from services.common.storage.settings import ObjectStoreSettings


class Bucket:
    """What lies in a bucket `faces`.

    Args:
        port: where the S3 server is on this machine's own address.
        keys: what lets one in, as environment variables.
    """

    def __init__(self, port: int, keys: Mapping[str, str]) -> None:
        self._keys = dict(keys)
        self._settings = ObjectStoreSettings(
            store_url="s3://faces", s3_endpoint_url=f"http://127.0.0.1:{port}"
        )

    def ids(self) -> list[str]:
        """All faces' ids, one for each object."""
        with patch.dict(os.environ, self._keys):
            return asyncio.run(self._list())

    async def _list(self) -> list[str]:
        async with open_store(self._settings) as objects:
            return [face.id async for face in newest_first(objects)]
