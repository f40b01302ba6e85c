from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.storage.folder import FolderStore
from services.common.storage.locations import FolderLocation, parse_location
from services.common.storage.objects import WholeStore
from services.common.storage.settings import ObjectStoreSettings


@asynccontextmanager
async def open_store(
    settings: ObjectStoreSettings, *, may_make_folder: bool = True
) -> AsyncIterator[WholeStore]:
    """Open the folder or bucket that the settings name; it is not accessed before `verify`.

    Args:
        settings: where the store is.
        may_make_folder: whether a folder without a store may become one; else it is `StoreUnavailable`.

    Raises:
        SetupError: the AWS settings cannot be used.
    """
    location = parse_location(settings.store_url)
    if isinstance(location, FolderLocation):
        with FolderStore(location.path, may_make=may_make_folder, mode=settings.file_mode) as folder:
            yield folder
    else:
        # Loaded only where there is a bucket: it takes a tenth of a second and some megabytes.
        from services.common.storage.s3 import S3Store  # noqa: PLC0415
        from services.common.storage.s3_client import Encryption, S3Settings  # noqa: PLC0415

        encryption = Encryption(
            settings.s3_server_side_encryption, settings.s3_kms_key_id, settings.s3_bucket_key
        )
        access = S3Settings(
            settings.s3_endpoint_url, settings.s3_path_style, settings.s3_timeout_s, encryption
        )
        async with S3Store(location, access) as bucket:
            yield bucket
