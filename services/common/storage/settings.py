import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from services.common.runtime.settings import Settings
from services.common.storage.locations import check_endpoint, parse_location


def _store_url(text: str) -> str:
    parse_location(text)
    return text


def _file_mode(text: str) -> str:
    if not re.fullmatch("0?[0-7]{3}", text, re.ASCII):
        raise ValueError("a mode of files is wanted, three octal digits such as 0600 or 0640")
    if int(text, 8) & ~0o666 or int(text, 8) & 0o600 != 0o600:
        raise ValueError("the owner must be able to read and write them, and no user to run them")
    return text


class ObjectStoreSettings(Settings):
    """Where the store is, and how it is reached."""

    store_url: Annotated[str, AfterValidator(_store_url)] = Field(
        ..., description="s3://bucket/prefix or file:///path"
    )
    store_file_mode: Annotated[str, AfterValidator(_file_mode)] = Field(
        "0600",
        description="mode of the files in a folder, octal; who may read them may search its folders; 0640: "
        "the group may read, 0644: all users of this machine",
    )
    s3_endpoint_url: Annotated[str, AfterValidator(check_endpoint)] | None = Field(
        None,
        description="an S3 server of your own; default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else AWS's",
    )
    s3_path_style: bool | None = Field(
        None,
        description="true: the bucket goes into the path; false: into the host name; default: true with an "
        "endpoint URL, else false",
    )
    s3_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="seconds that one request may take, or finding credentials"
    )
    s3_server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, description="how the bucket is asked to encrypt what it is given; default: as it does by itself"
    )
    s3_kms_key_id: str | None = Field(
        None,
        pattern=r"^[\x21-\x7e]{1,2048}$",
        description="the key for aws:kms and aws:kms:dsse; default: the account's own",
    )
    s3_bucket_key: bool | None = Field(
        None, description="true: one key serves the whole bucket, which spares requests to KMS"
    )

    @property
    def file_mode(self) -> int:
        """The mode of the files in a folder."""
        return int(self.store_file_mode, 8)

    @model_validator(mode="after")
    def _check_encryption(self) -> Self:
        is_kms = self.s3_server_side_encryption in ("aws:kms", "aws:kms:dsse")
        if not is_kms and (self.s3_kms_key_id is not None or self.s3_bucket_key is not None):
            wanted = "FACEFERRY_S3_SERVER_SIDE_ENCRYPTION=aws:kms"
            raise ValueError(f"FACEFERRY_S3_KMS_KEY_ID and FACEFERRY_S3_BUCKET_KEY want {wanted}")
        return self
