from typing import Annotated, Self

from pydantic import Field, model_validator

from services.common.settings import CloudSettings, CommaSeparated
from services.common.storage.settings import ObjectStoreSettings

_MIB = 1024 * 1024


class StoreSettings(CloudSettings, ObjectStoreSettings):
    """Puts the faces that come in from the cloud broker into a bucket or a folder."""

    store_topics: Annotated[tuple[str, ...], CommaSeparated] = Field(
        ("faceferry/+/+/face", "test_topic"),
        min_length=1,
        description="topic filters, separated by commas; replicas share them",
    )
    store_concurrency: int = Field(32, ge=1, le=1024, description="writes at a time")
    store_receive_maximum: int = Field(
        256, ge=1, le=65_535, description="faces that the broker may hand over before the first is stored"
    )
    store_make_folder: bool = Field(
        True,
        description="false: a folder that holds no store yet (a disk that is mounted late) is waited for; "
        "true: it becomes one",
    )
    store_max_face_bytes: int = Field(
        8 * _MIB, ge=1024, le=256 * _MIB, description="the largest image that is taken, in bytes"
    )
    store_max_waiting_bytes: int = Field(
        128 * _MIB,
        ge=1024,
        description="bytes of images in memory until they are stored; what comes beyond it is left to be "
        "sent again",
    )

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.store_max_waiting_bytes < self.store_max_face_bytes:
            raise ValueError("FACEFERRY_STORE_MAX_WAITING_BYTES is less than one face may have")
        return self
