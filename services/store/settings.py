from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from services.common.erasure.settings import ErasureSettings
from services.common.notify.settings import ReceiverSecret, ReceiverUrl
from services.common.runtime.settings import CommaSeparated
from services.common.runtime.shared_settings import CloudSettings, RetentionSettings, TracesSettings
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import bare_topics

_MIB = 1024 * 1024
_MOST_GROUP_BYTES = 255


def _topics(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the topic filters if all are valid; a broker ends connections over an invalid one."""
    if not texts:
        raise ValueError("names no topic filter")
    for text in texts:
        bare_topics.parse(text)
    return texts


def _group(secret: SecretStr | None) -> SecretStr | None:
    """Return a valid group's name (MQTT 5.0, section 4.8.2). It is a secret: no error shows it."""
    name = secret.get_secret_value() if secret is not None else None
    if name is not None and (
        not name.isprintable() or {"/", "+", "#"} & set(name) or len(name.encode()) > _MOST_GROUP_BYTES
    ):
        raise ValueError(f"no '/', '+', '#' or control characters, and at most {_MOST_GROUP_BYTES} bytes")
    return secret


class StoreSettings(CloudSettings, RetentionSettings, ErasureSettings, ObjectStoreSettings, TracesSettings):
    """Puts the faces that come in from the cloud broker into a bucket or a folder."""

    store_topics: Annotated[tuple[str, ...], CommaSeparated, AfterValidator(_topics)] = Field(
        ("faceferry/+/+/face", "test_topic"),
        description="topic filters, separated by commas; replicas share them. Where clients publish plain "
        "images {device} and {camera} stand for levels that name them (cam/{camera}/faces), or names behind "
        "(faces=hall/front)",
    )
    store_group: Annotated[SecretStr | None, AfterValidator(_group)] = Field(
        None,
        description="the name of the group in which replicas share them, which only they may know; "
        "default: derived from this store's key or password, so that replicas with the same one agree",
    )
    store_knock_s: float = Field(
        15.0,
        ge=0,
        le=3600,
        description="seconds without any message after which the store sends one to itself, by each broker: "
        "a broker may grant a subscription and then deliver nothing; 0: never",
    )
    store_concurrency: int = Field(32, ge=1, le=1024, description="writes at a time")
    store_receive_maximum: int = Field(
        2_048,
        ge=1,
        le=65_535,
        description="faces that the broker may deliver before the first is stored; more than may wait, so "
        "that the store sees what all devices send",
    )
    store_make_folder: bool = Field(
        True,
        description="false: a folder that holds no store yet (a disk that is mounted late) is waited for; "
        "true: it becomes one",
    )
    store_max_face_bytes: int = Field(
        8 * _MIB, ge=1024, le=256 * _MIB, description="the largest image that is accepted, in bytes"
    )
    store_max_waiting_faces: int = Field(
        1_024,
        ge=1,
        le=32_767,
        description="faces of all devices in memory until they are stored; of more, the newest of the device "
        "that has the most are dropped, for it to send again",
    )
    store_max_waiting_bytes: int = Field(
        128 * _MIB,
        ge=1024,
        description="bytes of images in memory until they are stored; likewise",
    )
    store_notify_url: ReceiverUrl = Field(
        None,
        description="where a message goes when a visit's first picture is stored: https://host/path, which "
        "gets JSON; ntfys://ntfy.sh/topic; tgram://TOKEN/CHAT",
    )
    store_notify_secret: ReceiverSecret = Field(
        None, description="the key that messages to https:// receivers are signed with (Standard Webhooks)"
    )
    store_notify_picture: bool = Field(
        False, description="true: the picture itself is sent as well as the link to it"
    )
    store_notify_per_minute: int = Field(10, ge=1, le=600, description="messages a minute, at most")
    store_notify_link_s: int = Field(
        86_400,
        ge=1,
        le=604_800,
        description="seconds for which the link in a message is valid; a folder gives no links",
    )
    store_index_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="seconds that a stored face may be missing from the index, which lists the stored faces "
        "for galleries of many devices and for queries; 0: no index is written",
    )
    store_erasures_s: float = Field(
        10.0,
        gt=0,
        le=15,
        description="seconds between two reads of the log of erasures, where FACEFERRY_ERASE_KEY is set",
    )
    store_device_max_bytes_s: int = Field(
        0,
        ge=0,
        description="bytes a second that one device may send, with 2 kB more for each face; what exceeds it "
        "is dropped, for the device to send again; 0: no bound",
    )
    store_device_max_faces_s: int = Field(
        0, ge=0, description="faces a second that one device may send; likewise; 0: no bound"
    )

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.store_max_waiting_bytes < self.store_max_face_bytes:
            raise ValueError("FACEFERRY_STORE_MAX_WAITING_BYTES is less than one face may have")
        if self.store_receive_maximum <= self.store_max_waiting_faces:
            raise ValueError(
                "FACEFERRY_STORE_RECEIVE_MAXIMUM is not more than FACEFERRY_STORE_MAX_WAITING_FACES: what "
                "waits would keep the broker from handing over what other devices send"
            )
        return self
