"""Settings from the environment, prefix `FACEFERRY_`; secrets also from files, `..._FILE`."""

import math
import os
import sys
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from services.common.errors import SetupError
from services.common.runtime.addresses import MOST_SECRET_BYTES, HostName
from services.common.runtime.logging import LogFormat, LogLevel
from services.common.runtime.variables import PREFIX

MOST = 2**53
"""The largest number in any setting: no disk is larger in bytes, and larger floats are not exact."""

_MOST_SHOWN = 300


def _split_commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


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


def is_readable(path: Path) -> bool:
    """Say whether a path is a file that this process may read."""
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:  # the path is too long, or a folder in it may not be searched
        return False


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
        return read(settings)
    except BadSettings as error:
        _refuse(error.problems)


class BadSettings(SetupError):
    """Settings that are missing or cannot be used.

    Args:
        problems: what is wrong, a line each, which names its variable.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read(settings: type[S], **given: Any) -> S:
    """Return settings from the environment, as commands read them; services use `load`.

    Args:
        settings: their class.
        given: values by their fields' names, which stand whatever the environment says.

    Raises:
        BadSettings: some are missing or cannot be used.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        raise BadSettings([_explain(dict(problem)) for problem in error.errors()]) from error


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
