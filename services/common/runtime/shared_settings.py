"""Settings that several services have in common."""

import socket
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    model_validator,
)

from services.common.retention import FOREVER, Retention, parse_retention
from services.common.runtime.addresses import Alpn, BrokerUrls, MqttUrl, ProxyUrl
from services.common.runtime.settings import CommaSeparated, Settings, is_readable, shown
from services.common.runtime.variables import PREFIX
from services.common.wire.topics import is_name


def _device_name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text[:80]!r} is no device name: lower-case letters, digits and '-', at most 63")
    return text


DeviceName = Annotated[str, AfterValidator(_device_name)]


class DeviceSettings(Settings):
    """What the services at the edge share."""

    device: DeviceName = Field(
        default_factory=socket.gethostname,
        validate_default=True,
        description="this device's name; default: the host's",
    )
    local_mqtt_url: MqttUrl = Field("mqtt://127.0.0.1:1883", description="the broker on this device")
    local_mqtt_password: SecretStr | None = Field(
        None, description="its password, if it asks for one; sent alone where the address names no user"
    )


class KeepSettings(Settings):
    """What detect and forward have to agree on."""

    keep: Literal["visits", "every"] = Field(
        "visits",
        description="visits: a few good pictures of each visit; every: each face of each frame",
    )


DEFAULT_LOOKS_PER_S = 10.0


class LooksSettings(KeepSettings):
    """What capture and detect have to agree on."""

    looks_per_s: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="about how often a second a live camera is looked at where a person is; 0: each frame; "
        "none: 10, or each frame where each face is kept",
    )

    @property
    def usual_looks_per_s(self) -> float:
        """How often a live camera is looked at where a person is, a second; 0: each frame."""
        if self.looks_per_s is not None:
            return self.looks_per_s
        return DEFAULT_LOOKS_PER_S if self.keep == "visits" else 0.0


class CloudSettings(Settings):
    """What the services at both ends of the uplink share."""

    cloud_mqtt_url: BrokerUrls = Field(
        ...,
        description="the broker in the cloud, or several with commas between (one in an address is %2C): "
        "forward uses one of them, the store and the gallery listen on all",
    )
    cloud_mqtt_password: SecretStr | None = Field(
        None, description="its password, if it asks for one; sent alone where the address names no user"
    )
    cloud_mqtt_alpn: Annotated[tuple[Alpn, ...], CommaSeparated] = Field(
        (),
        description="protocols to offer while TLS begins, where the broker shares a port with others; "
        "default: x-amzn-mqtt-ca for AWS IoT's own addresses on port 443",
    )
    cloud_proxy_url: ProxyUrl | None = Field(
        None, description="an HTTP proxy that lets us out, as http://user@proxy:3128; for MQTT alone"
    )
    cloud_proxy_password: SecretStr | None = Field(None, description="its user's password")
    cloud_ca_file: Path | None = Field(None, description="who vouches for the broker; default: the system's")
    cloud_cert_file: Path | None = Field(None, description="our certificate (mutual TLS)")
    cloud_key_file: Path | None = Field(None, description="its key")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.cloud_cert_file is None) != (self.cloud_key_file is None):
            raise ValueError("FACEFERRY_CLOUD_CERT_FILE and FACEFERRY_CLOUD_KEY_FILE go together")
        for name in ("cloud_ca_file", "cloud_cert_file", "cloud_key_file"):
            path = getattr(self, name)
            if path is not None and not is_readable(path):
                raise ValueError(f"{PREFIX}{name.upper()}: {shown(str(path))} is no file that can be read")
        return self


def checked_days(text: str) -> str:
    """Return the text of a number of days, or `forever`.

    Raises:
        ValueError: it is neither; says what is wanted.
    """
    parse_retention(text)
    return text


class RetentionSettings(Settings):
    """What all services that hold or show faces have to agree on."""

    retain_days: Annotated[str, AfterValidator(checked_days)] = Field(
        FOREVER,
        description="days that a face is kept, wherever it is, from when its frame was taken; or forever",
    )

    @property
    def retention(self) -> Retention:
        """How long faces are kept."""
        return parse_retention(self.retain_days)


def _otlp_url(text: str) -> str:
    """Return the URL for traces unchanged if it is valid; its credentials have OTEL_* variables."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("an address such as http://collector:4318 is wanted")
    if parts.username is not None or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("no user, query, '#' or space belongs here: see OTEL_EXPORTER_OTLP_HEADERS")
    return text


class TracesSettings(Settings):
    """What the four services that a face goes through share."""

    otlp_url: Annotated[str, AfterValidator(_otlp_url)] | None = Field(
        None,
        description="where traces go, OTLP over HTTP, as http://collector:4318; none: there are none; OTEL_* "
        "variables hold besides",
    )
    trace_share: float = Field(
        0.1, ge=0, le=1, description="how many of the frames are traced, by capture's choice; 1: each"
    )
