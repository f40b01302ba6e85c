"""The password of one run, for its brokers and its pages, where others are on this machine.

It is in files that nobody else may read: not on a command line, which everybody on a machine sees, and not in
the environment.
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
"""It is no word that anybody could guess: what is hashed is as long as a key."""
_SALT_BYTES = 12

_FIRST_OF_PEOPLE = 1_000
"""Accounts of people begin here; those before it are the system's own (login.defs(5), UID_MIN)."""
_NOBODY = 65_534
_NO_SHELLS = frozenset({"nologin", "false", "sync", "halt", "shutdown", "true"})


@dataclass(frozen=True, slots=True)
class RunPassword:
    """Where the password of a run is.

    Attributes:
        folder: where `write` puts it.
    """

    folder: Path

    @property
    def password_path(self) -> Path:
        """The password itself, for the services, and for people."""
        return self.folder / "password"

    @property
    def broker_path(self) -> Path:
        """Mosquitto's `password_file`."""
        return self.folder / "broker-passwords"

    @property
    def clients_path(self) -> Path:
        """What `XDG_CONFIG_HOME` has to be for `mosquitto_pub` and `mosquitto_sub` to give it."""
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
        """Return the settings of services that are to give or ask for it; a page's own token stands."""
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
    """Return the names of other people's accounts, in order; root's is none, for it may do everything anyway.

    Args:
        accounts: by default those that this machine lists, which may leave out a directory's.
        own_uid: by default this process's.
    """
    listed = pwd.getpwall() if accounts is None else accounts
    own = os.getuid() if own_uid is None else own_uid
    return sorted(account.pw_name for account in listed if account.pw_uid != own and _is_person(account))


def _is_person(account: pwd.struct_passwd) -> bool:
    has_shell = PurePath(account.pw_shell).name not in _NO_SHELLS
    return has_shell and account.pw_uid >= _FIRST_OF_PEOPLE and account.pw_uid != _NOBODY


def hashed(password: str, salt: bytes) -> str:
    """Return a password as Mosquitto keeps it: PBKDF2 with SHA-512, `$7$rounds$salt$hash`.

    Its own program for that, mosquitto_passwd, would have to be given the password on its command line.
    """
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _put(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(create(path), "w") as file:
        file.write(text)
