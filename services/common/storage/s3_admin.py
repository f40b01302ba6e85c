"""Requests by aioboto3 that obstore cannot do: versions and bucket settings. They are rare and cost more."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from services.common.storage.objects import StoreUnavailable
from services.common.storage.s3_client import S3Settings, region_name

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

NOT_THERE = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
_UNKNOWN = frozenset(
    {
        "NotImplemented",
        "MethodNotAllowed",
        "UnsupportedOperation",
        "VersioningNotConfigured",  # versitygw without a folder for versions
        "501",
        "405",
    }
)
_REASONS = {
    "AccessDenied": "forbidden",
    "Forbidden": "forbidden",
    "InvalidAccessKeyId": "forbidden",
    "SignatureDoesNotMatch": "forbidden",
    "ObjectLocked": "forbidden",
    "403": "forbidden",
    "NoSuchBucket": "no_bucket",
    "SlowDown": "throttled",
    "RequestTimeTooSkewed": "clock_skew",
}


class NotOffered(StoreUnavailable):
    """The server does not have this feature."""


@asynccontextmanager
async def admin(access: S3Settings) -> AsyncIterator["S3Client"]:
    """Open a client; use it within `translated`.

    Args:
        access: how the server is reached; botocore finds what is not set there.
    """
    is_path = access.is_path_style or (access.is_path_style is None and access.endpoint_url is not None)
    config = AioConfig(
        connect_timeout=min(access.timeout_s, 5.0),
        read_timeout=access.timeout_s,
        retries={"max_attempts": 2},
        signature_version="s3v4",
        s3={"addressing_style": "path" if is_path else "auto"},
        # Few servers but AWS's take what is the default of newer versions.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with translated():
        session = aioboto3.Session()
        async with session.client(
            "s3", region_name=region_name(), endpoint_url=access.endpoint_url, config=config
        ) as client:
            yield client


@contextmanager
def translated() -> Iterator[None]:
    """Turn what botocore raises into `StoreUnavailable`."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        kind = NotOffered if code in _UNKNOWN else StoreUnavailable
        told = f"{error.operation_name}: {code}: {error.response.get('Error', {}).get('Message', '')[:200]}"
        raise kind(_REASONS.get(code, "rejected"), told) from error
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise StoreUnavailable("unreachable", " ".join(str(error).split())[:300]) from error


def code_of(error: ClientError) -> str:
    """Return the server's error code; `""` without one."""
    return str(error.response.get("Error", {}).get("Code", ""))


def reason_of(error: ClientError) -> str:
    """Return the reason for an error, as in `StoreUnavailable`."""
    return _REASONS.get(code_of(error), "rejected")
