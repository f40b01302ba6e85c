"""obstore's clients of one bucket: how it is addressed, what each request says beside the object."""

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
        algorithm: `AES256`, `aws:kms` or `aws:kms:dsse`; nothing leaves it to the bucket.
        kms_key_id: the key, where it is not the default one.
        is_bucket_key_used: whether one key serves the whole bucket; nothing leaves it to the bucket.
    """

    algorithm: str | None = None
    kms_key_id: str | None = None
    is_bucket_key_used: bool | None = None

    def headers(self) -> dict[str, str]:
        """Return what a request says of it."""
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
    """How a bucket is reached: see `ObjectStoreSettings`."""

    endpoint_url: str | None = None
    is_path_style: bool | None = None
    timeout_s: float = 10.0
    encryption: Encryption = field(default_factory=Encryption)


class Clients:
    """Makes the clients of a bucket, and keeps those of the latest keys.

    The keys are a client's for good. obstore would ask for them by itself, but earlier and more often than is
    good for whoever gives them, and by a clock that may be set.

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
        )  # what cannot be is told at start, not at the first face

    def get(self, keys: AccessKeys, *, has_checksum: bool) -> Client:
        """Return the client that signs with these keys and says the body's SHA-256, or does not."""
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
    """Return how the client is to address a bucket: in the path, or in the host name.

    Args:
        bucket: its name.
        endpoint: a server other than AWS's.
        is_path_style: nothing said means yes on such a server, for few have a host name for each bucket.
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
    """Have `AWS_CA_BUNDLE` trusted, as botocore would.

    obstore has no setting for it: the TLS library below reads `SSL_CERT_FILE` at its first connection.
    Python's own TLS reads it too, but only when a context is made, and the link to the broker has made its.
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
    """Return the region that requests are signed for.

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
