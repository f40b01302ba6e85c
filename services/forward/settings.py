from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from services.common.erasure.settings import ErasureSettings
from services.common.notify.settings import ReceiverSecret, ReceiverUrl
from services.common.runtime.settings import CommaSeparated
from services.common.runtime.shared_settings import (
    CloudSettings,
    DeviceSettings,
    KeepSettings,
    RetentionSettings,
    TracesSettings,
)
from services.common.wire import bare_topics
from services.common.wire.status import MOST_EVERY_S
from services.common.wire.topics import BARE_IMAGES

MIB = 1024 * 1024


def _bare_topics(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Check that patterns can be subscribed to together; see `bare_topics`.

    Raises:
        ValueError: they cannot, or one has a level for the device.
    """
    patterns = [bare_topics.parse(text) for text in texts]
    if any(pattern.device is not None for pattern in patterns):
        raise ValueError("at the edge all images are this device's: behind '=' stands a camera's name alone")
    bare_topics.check_apart(patterns)
    return texts


class ForwardSettings(
    DeviceSettings, KeepSettings, RetentionSettings, ErasureSettings, CloudSettings, TracesSettings
):
    """forward: holds every face on disk until the store has it."""

    spool_path: Path = Field(Path("spool"), description="the folder in which faces wait for the cloud")
    spool_max_bytes: int = Field(
        4096 * MIB,
        ge=16 * MIB,
        description="what that folder may hold, quarantine included; beyond it no face is taken",
    )
    spool_reserve_bytes: int = Field(
        8 * MIB,
        ge=MIB,
        description="kept free on the disk, so that forward works on when it is full",
    )
    quarantine_max_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="what refused faces may take; beyond it the oldest are deleted, counted",
    )
    uplink_max_bytes_s: int = Field(0, ge=0, description="limit of the uplink in bytes a second; 0: none")
    bare_topics: Annotated[tuple[str, ...], CommaSeparated, AfterValidator(_bare_topics)] = Field(
        (BARE_IMAGES,),
        description="where clients publish plain images at the edge, separated by commas: topic filters, "
        "with {camera} for the level that names it (cam/{camera}/faces), or a name behind (faces=front)",
    )
    resend_first_s: float = Field(
        2.0,
        gt=0,
        le=10,
        description="seconds without a receipt until a face is sent again; then doubled",
    )
    status_every_s: int = Field(
        10,
        ge=0,
        le=MOST_EVERY_S,
        description="seconds after which the cloud is told again that this device is there; the gallery "
        "shows it as offline after two and a half times as long; 0: never",
    )
    visit_gap_s: float = Field(
        2.0, gt=0, le=600, description="a visit ends when its face was not seen for so many seconds"
    )
    visit_better: float = Field(
        1.1, ge=1, le=100, description="a further picture of a visit is kept if it is so many times as good"
    )
    visit_most_shots: int = Field(
        8,
        ge=1,
        le=10_000,
        description="pictures of a visit, at most; where it may be another person, there is one more",
    )
    visit_anew_s: float = Field(
        0.0,
        ge=0,
        description="a person who stays for longer than so many seconds begins another visit; 0: never, "
        "because a poster stays for ever",
    )

    home_assistant: bool = Field(
        False,
        description="true: publish for Home Assistant on the local broker (MQTT discovery)",
    )

    notify_url: ReceiverUrl = Field(
        None,
        description="where to send a message when a visit begins: https://host/path, which gets JSON; "
        "ntfys://ntfy.sh/topic; tgram://TOKEN/CHAT",
    )
    notify_secret: ReceiverSecret = Field(
        None, description="the key that https:// receivers know our messages by (Standard Webhooks)"
    )
    notify_picture: bool = Field(False, description="true: a message has the first picture of the visit")
    notify_per_minute: int = Field(10, ge=1, le=600, description="messages a minute, at most")

    @model_validator(mode="after")
    def _check_visits(self) -> Self:
        for name, is_set in (("HOME_ASSISTANT", self.home_assistant), ("NOTIFY_URL", self.notify_url)):
            if is_set and self.keep != "visits":
                raise ValueError(f"FACEFERRY_{name} needs FACEFERRY_KEEP=visits: it is about visits")
        return self

    @model_validator(mode="after")
    def _check_brokers(self) -> Self:
        if self.local_mqtt_url in self.cloud_mqtt_url:
            raise ValueError(
                "FACEFERRY_CLOUD_MQTT_URL and FACEFERRY_LOCAL_MQTT_URL name the same broker: "
                "forward would send every face to itself"
            )
        return self
