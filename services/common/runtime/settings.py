"""Settings from the environment, prefix `FACEFERRY_`; secrets also from files, `..._FILE`."""

import math
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from services.common.retention import FOREVER, Retention, parse_retention
from services.common.runtime.addresses import MOST_SECRET_BYTES, Alpn, BrokerUrls, HostName, MqttUrl, ProxyUrl
from services.common.runtime.logging import LogFormat, LogLevel
from services.common.runtime.variables import PREFIX
from services.common.wire.topics import is_name

MOST = 2**53
"""The largest number in any setting: no disk is larger in bytes, and larger floats are not exact."""

_MOST_SHOWN = 300


def _device_name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text[:80]!r} is no device name: lower-case letters, digits and '-', at most 63")
    return text


def _split_commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


DeviceName = Annotated[str, AfterValidator(_device_name)]
CommaSeparated = BeforeValidator(_split_commas)


class MayBeInFile:
    """Marks a setting, in its annotation, that may hold secrets and so has a `..._FILE` too."""


def _has_file(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation) or any(isinstance(one, MayBeInFile) for one in field.metadata)


class SecretFiles(PydanticBaseSettingsSource):
    """Reads secrets from the files that `..._FILE` variables name, without the last line end.

    An empty file counts as unset, as an empty variable does.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the field's file, if it may have one and one is named; exit if it is bad."""
        variable = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path or not _has_file(field):
            return None, field_name, False
        try:
            secret = _read_secret(Path(path))
            _check_secret(secret)
        except OSError as error:
            _refuse([f"{variable}: {error.strerror}: {path}"])
        except UnicodeDecodeError:
            _refuse([f"{variable}: {path} is not UTF-8"])
        except ValueError as error:
            _refuse([f"{variable}: {path}: {error}"])
        return secret or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values of all settings that have a file."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def _read_secret(path: Path) -> str:
    """Return a secret from its file, reading no more than a secret may have: a file may be endless."""
    with path.open("rb") as file:
        return file.read(MOST_SECRET_BYTES + len("\r\n") + 1).decode().rstrip("\r\n")


class Settings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", enable_decoding=False, env_ignore_empty=True
    )

    log_level: LogLevel = Field("info", description="the least severe level that is logged")
    log_format: LogFormat = Field("auto", description="json, console, or auto: console on a terminal")
    http_host: HostName = Field("127.0.0.1", description="where /healthz, /readyz and /metrics listen")
    http_port: int = Field(0, ge=0, le=65535, description="their port; 0: any free one, said in the log")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes these by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then the secrets' files."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @field_validator("*")
    @classmethod
    def _check_kind(cls, value: object) -> object:
        """Refuse values that have the right type and cannot be meant, in any setting."""
        match value:
            case SecretStr():
                _check_secret(value.get_secret_value())
            case str():
                _check_text(value)
            case int() | float() if not math.isfinite(value) or abs(value) > MOST:
                raise ValueError("no such number can be meant")
        return value


def _check_secret(secret: str) -> None:
    _check_text(secret)
    if len(secret.encode()) > MOST_SECRET_BYTES:
        raise ValueError(f"a secret has at most {MOST_SECRET_BYTES} bytes")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None


def _is_readable(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:  # the path is too long, or a folder in it may not be searched
        return False


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
            if path is not None and not _is_readable(path):
                raise ValueError(f"{PREFIX}{name.upper()}: {shown(str(path))} is no file that can be read")
        return self


def _retain_days(text: str) -> str:
    parse_retention(text)
    return text


class RetentionSettings(Settings):
    """What all services that hold or show faces have to agree on."""

    retain_days: Annotated[str, AfterValidator(_retain_days)] = Field(
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


S = TypeVar("S", bound=Settings)


def load(settings: type[S], arguments: list[str] | None = None) -> S:
    """Return the settings, or name each bad variable on standard error and exit with status 2.

    Args:
        settings: the service's class.
        arguments: the command line without the program's name; None: the process's. `--help` lists the
            settings and exits.

    Raises:
        SystemExit: with status 2 for bad settings or arguments, 0 after `--help`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(describe(settings))
        raise SystemExit(0)
    if arguments:
        _refuse([f"unknown argument {arguments[0]!r}: settings come from the environment, see --help"])
    try:
        return settings()
    except ValidationError as error:
        _refuse(problems_in(error))


def variables_of(settings: type[Settings]) -> set[str]:
    """Return the names of all variables that a service reads."""
    names = {f"{PREFIX}{name.upper()}": field for name, field in settings.model_fields.items()}
    return {*names, *(f"{name}_FILE" for name, field in names.items() if _has_file(field))}


def describe(settings: type[Settings]) -> str:
    """Return a text about a service's settings, with defaults and meaning, as `--help` shows it."""
    doc = (settings.__doc__ or "").strip()
    lines = [doc, "", "Settings, from the environment:", ""]
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default!s}"
        if field.default_factory is not None:
            default = "default: see there"
        if field.default is None:
            default = "optional"
        also = f" (or {PREFIX}{name.upper()}_FILE)" if _has_file(field) else ""
        lines.append(f"  {PREFIX}{name.upper()}{also}  [{default}]")
        lines.append(f"      {field.description}")
    return "\n".join(lines) + "\n"


def problems_in(error: ValidationError) -> list[str]:
    """Return what is wrong with settings, one line for each problem, for users."""
    return [_explain(dict(problem)) for problem in error.errors()]


def _explain(problem: dict[str, Any]) -> str:
    message = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
    if problem["loc"]:
        message = f"{PREFIX}{str(problem['loc'][0]).upper()}: {message}"
    return shown(message)


def shown(text: str) -> str:
    """Return a text as one line of limited length that any terminal can show: a setting may hold anything."""
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."


def _refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        sys.stderr.write(f"{shown(problem)}\n")
    raise SystemExit(2)
