from typing import Annotated

from pydantic import AfterValidator, Field

from services.common.settings import Settings
from services.common.storage.locations import parse_location


def _store_url(text: str) -> str:
    parse_location(text)
    return text


class ObjectStoreSettings(Settings):
    """Where the faces lie: what anybody who reads or writes them needs to know."""

    store_url: Annotated[str, AfterValidator(_store_url)] = Field(
        ..., description="s3://bucket/prefix or file:///path"
    )
    s3_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="an S3 server of your own; default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else AWS's",
    )
    s3_path_style: bool | None = Field(
        None,
        description="true: the bucket goes into the path; false: into the host name; default: true with an "
        "endpoint URL, else false",
    )
    s3_timeout_s: float = Field(10.0, gt=0, description="seconds that one request may take")
