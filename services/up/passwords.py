"""The password of one run for its brokers and pages, on a machine with other users.

It is in files that only their owner may read: not on a command line, which all users of a machine see, and
not in the environment.
"""

import base64
import hashlib
import os
import pwd
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from services.common.runtime.files import create, make_folders

USER: Final = "up"
_ROUNDS = 1_000
"""Few rounds are enough: the password is random and as long as a key."""
_SALT_BYTES = 12

_FIRST_OF_PEOPLE = 1_000
"""The first user id of people's accounts; lower ones are the system's (login.defs(5), UID_MIN)."""
_NOBODY = 65_534
_NO_SHELLS = frozenset({"nologin", "false", "sync", "halt", "shutdown", "true"})


@dataclass(frozen=True, slots=True)
class RunPassword:
    """The files with the password of a run.

    Attributes:
        folder: where `write` puts them.
    """

    folder: Path

    @property
    def password_path(self) -> Path:
        """The password itself, for the services and the user."""
        return self.folder / "password"

    @property
    def broker_path(self) -> Path:
        """Mosquitto's `password_file`."""
        return self.folder / "broker-passwords"

    @property
    def clients_path(self) -> Path:
        """The value of `XDG_CONFIG_HOME` with which `mosquitto_pub` and `mosquitto_sub` use the password."""
        return self.folder / "clients"

    def write(self) -> None:
        """Make a new password."""
        password = secrets.token_urlsafe(24)
        make_folders(self.clients_path)
        _put(self.password_path, f"{password}\n")
        _put(self.broker_path, f"{USER}:{hashed(password, secrets.token_bytes(_SALT_BYTES))}\n")
        for name in ("mosquitto_pub", "mosquitto_sub"):
            _put(self.clients_path / name, f"-u {USER}\n-P {password}\n")

    def settings(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the settings of services that use the password; a token in `environment` is kept."""
        path = str(self.password_path)
        found: dict[str, str] = {}
        for name in ("FACEFERRY_LOCAL_MQTT_PASSWORD", "FACEFERRY_CLOUD_MQTT_PASSWORD"):
            found |= {name: "", f"{name}_FILE": path}
        for name in ("FACEFERRY_GALLERY_TOKEN", "FACEFERRY_LIVE_TOKEN"):
            if not (environment.get(name) or environment.get(f"{name}_FILE")):
                found[f"{name}_FILE"] = path
        return found


def other_accounts(
    accounts: Iterable[pwd.struct_passwd] | None = None, own_uid: int | None = None
) -> list[str]:
    """Return the names of other people's accounts, sorted; without root's, which may read everything anyway.

    Args:
        accounts: None: those that this machine lists, which may leave out those of a directory service.
        own_uid: None: this process's.
    """
    listed = pwd.getpwall() if accounts is None else accounts
    own = os.getuid() if own_uid is None else own_uid
    return sorted(account.pw_name for account in listed if account.pw_uid != own and _is_person(account))


def _is_person(account: pwd.struct_passwd) -> bool:
    has_shell = PurePath(account.pw_shell).name not in _NO_SHELLS
    return has_shell and account.pw_uid >= _FIRST_OF_PEOPLE and account.pw_uid != _NOBODY


def hashed(password: str, salt: bytes) -> str:
    """Return a password as Mosquitto stores it: PBKDF2 with SHA-512, `$7$rounds$salt$hash`.

    mosquitto_passwd is not used because it takes the password on its command line.
    """
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _put(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(create(path), "w") as file:
        file.write(text)
