"""obstore's clients of one bucket: its address, and the headers of requests."""

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import aioboto3
from botocore.exceptions import BotoCoreError
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from services.common.errors import SetupError
from services.common.storage.locations import Bucket, check_endpoint
from services.common.storage.s3_credentials import AccessKeys

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential

_DEFAULT_REGION = "us-east-1"
_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Encryption:
    """How the server is asked to encrypt what it is given; see `ObjectStoreSettings`.

    Attributes:
        algorithm: `AES256`, `aws:kms` or `aws:kms:dsse`; None: the bucket decides.
        kms_key_id: the key; None: the default one.
        is_bucket_key_used: whether one key serves the whole bucket; None: the bucket decides.
    """

    algorithm: str | None = None
    kms_key_id: str | None = None
    is_bucket_key_used: bool | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of a request that ask for it."""
        prefix = "x-amz-server-side-encryption"
        values = {
            prefix: self.algorithm,
            f"{prefix}-aws-kms-key-id": self.kms_key_id,
            f"{prefix}-bucket-key-enabled": str(self.is_bucket_key_used).lower()
            if self.is_bucket_key_used is not None
            else None,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How a bucket is reached: see `ObjectStoreSettings`.

    Attributes:
        endpoint_url: of a server other than AWS's, or None.
        is_path_style: whether the bucket is in the path; None: with an endpoint only.
        timeout_s: seconds that one request may take.
        encryption: how the server encrypts objects.
    """

    endpoint_url: str | None = None
    is_path_style: bool | None = None
    timeout_s: float = 10.0
    encryption: Encryption = field(default_factory=Encryption)


class Clients:
    """Makes the clients of a bucket, and keeps those with the latest access keys.

    A client has fixed keys. obstore could ask for them by itself, but would do so earlier and more often than
    their provider should be asked, and by a clock that may be set.

    Args:
        bucket: name and prefix.
        access: how it is reached.

    Raises:
        SetupError: the AWS settings cannot be used.
    """

    def __init__(self, bucket: Bucket, access: S3Settings) -> None:
        endpoint = access.endpoint_url or _endpoint_from_environment()
        self.region = region_name()
        self._bucket = bucket
        self._access = access
        self._allows_http = bool(endpoint and endpoint.startswith("http:"))
        self._config: S3Config = {
            "region": self.region,
            **addressing(bucket.name, endpoint, is_path_style=access.is_path_style),
            **_encrypting(access.encryption),
        }
        self._keys: AccessKeys | None = None
        self._made: dict[bool, Client] = {}
        _trust_authorities()
        self._make(
            AccessKeys("", ""), has_checksum=False
        )  # so that errors show at start, not at the first face

    def get(self, keys: AccessKeys, *, has_checksum: bool) -> Client:
        """Return the client that signs with these keys, with or without the body's SHA-256."""
        if keys != self._keys:
            self._keys = keys
            self._made.clear()
        if has_checksum not in self._made:
            self._made[has_checksum] = self._make(keys, has_checksum=has_checksum)
        return self._made[has_checksum]

    def _make(self, keys: AccessKeys, *, has_checksum: bool) -> Client:
        credential: S3Credential = {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "token": keys.token,
            "expires_at": None,
        }
        config: S3Config = {**self._config, **({"checksum_algorithm": "SHA256"} if has_checksum else {})}
        try:
            return Client(
                self._bucket.name,
                prefix=self._bucket.prefix or None,
                config=config,
                client_options={
                    "allow_http": self._allows_http,
                    "timeout": timedelta(seconds=self._access.timeout_s),
                    "connect_timeout": timedelta(seconds=min(self._access.timeout_s, 5.0)),
                },
                retry_config={"max_retries": 0},
                credential_provider=lambda: credential,
            )
        except (BaseError, ValueError) as error:
            # obstore reads AWS_* too, more of them than botocore.
            words = str(error).partition("\n")[0]
            raise SetupError(f"the AWS settings cannot be used: {words}") from error


def addressing(bucket: str, endpoint: str | None, *, is_path_style: bool | None) -> "S3Config":
    """Return the settings that put the bucket into the path or into the host name.

    Args:
        bucket: its name.
        endpoint: URL of a server other than AWS's, or None.
        is_path_style: None means yes with an endpoint, because few servers have a host name for each bucket.
    """
    if endpoint is None:
        return {"virtual_hosted_style_request": not is_path_style}
    if is_path_style is not False:
        return {"endpoint": endpoint, "virtual_hosted_style_request": False}
    scheme, host = endpoint.split("://", 1)
    return {"endpoint": f"{scheme}://{bucket}.{host}", "virtual_hosted_style_request": True}


def _encrypting(encryption: Encryption) -> "S3Config":
    config: S3Config = {}
    if encryption.algorithm is not None:
        config["server_side_encryption"] = encryption.algorithm
    if encryption.kms_key_id is not None:
        config["sse_kms_key_id"] = encryption.kms_key_id
    if encryption.is_bucket_key_used is not None:
        config["sse_bucket_key_enabled"] = encryption.is_bucket_key_used
    return config


def _trust_authorities() -> None:
    """Trust `AWS_CA_BUNDLE`, as botocore does.

    obstore has no setting for it: its TLS library reads `SSL_CERT_FILE` at the first connection. Python's TLS
    reads it, too, but only when a context is made, and the link to the broker has made its own by then.
    """
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        os.environ.setdefault("SSL_CERT_FILE", bundle)


def _endpoint_from_environment() -> str | None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(name):
            try:
                return check_endpoint(url)
            except ValueError as error:
                raise SetupError(f"{name}: {error}") from error
    return None


def region_name() -> str:
    """Return the region for which requests are signed.

    Raises:
        SetupError: the AWS settings cannot be used.
    """
    try:
        region = aioboto3.Session().region_name or _DEFAULT_REGION
    except (BotoCoreError, OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise SetupError(f"the AWS settings cannot be used: {words}") from error
    if _REGION.fullmatch(region) is None:
        raise SetupError("AWS_DEFAULT_REGION: a region is written with letters, digits and '-'")
    return region
