"""Who else is on this machine: what listens on 127.0.0.1 can be reached by all of them."""

import os
import pwd
from collections.abc import Iterable
from pathlib import PurePath

_FIRST_OF_PEOPLE = 1_000
"""Accounts of people begin here; those before it are the system's own (login.defs(5), UID_MIN)."""
_NOBODY = 65_534
_NO_SHELLS = frozenset({"nologin", "false", "sync", "halt", "shutdown", "true"})


def neighbours(accounts: Iterable[pwd.struct_passwd] | None = None, own_uid: int | None = None) -> list[str]:
    """Return the names of other people's accounts, in order; root's is none, for it may do everything anyway.

    Args:
        accounts: by default those that this machine lists, which may leave out a directory's.
        own_uid: by default this process's.
    """
    listed = pwd.getpwall() if accounts is None else accounts
    own = os.getuid() if own_uid is None else own_uid
    return sorted(account.pw_name for account in listed if account.pw_uid != own and _is_persons(account))


def _is_persons(account: pwd.struct_passwd) -> bool:
    has_shell = PurePath(account.pw_shell).name not in _NO_SHELLS
    return has_shell and account.pw_uid >= _FIRST_OF_PEOPLE and account.pw_uid != _NOBODY
