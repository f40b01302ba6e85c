"""Removes secrets from texts about a camera's address, for logs and messages.

Cameras take passwords in every part of their addresses: before the host, in the path
(`/user=admin_password=x_channel=1`), in the query; or the path is itself the secret. So only the scheme and
the host of an address on a network are shown.
"""

import functools
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"

_SHORT = 5

_LOCAL = frozenset({"file", "v4l2", "csi", "rpicam", "test"})
"""Their addresses are no secrets, and users need them to understand a message."""
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://[^\s'\"]*[^\s'\":;,.!)]")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d{1,5})?")
_NAMED = re.compile(
    r"(?:pass\w*|pwd|psw|token|key|secret|auth\w*)=([^&;/]+?)(?=_[a-z]+=|[&;/]|$)", re.IGNORECASE
)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")


def shown(url: str) -> str:
    """Return a camera's address without secrets: its scheme and host, or a command's program."""
    scheme, _, rest = url.partition(":")
    if scheme == "exec":
        program, space, _words = rest.strip().partition(" ")
        return f"exec:{program} {HIDDEN}" if space else url
    return url if scheme in _LOCAL else f"{scheme}://{_place(rest)}"


def redact(text: str, url: str = "") -> str:
    """Return a text without the secrets of a camera's address, of other addresses, and control characters.

    Args:
        text: a log line or message.
        url: the address of the camera that it may be about, with its secrets.
    """
    # The whole address first: where it ends in a text, with an odd password in it, no pattern can tell.
    for spelling in _spellings_of_whole(url):
        text = text.replace(spelling, shown(url))
    text = _URL.sub(lambda found: shown(found[0]), text)
    for secret in secrets_of(url):
        text = text.replace(secret, HIDDEN)
    return _UNPRINTABLE.sub(" ", text)


def without_named(text: str, instead: str) -> str:
    """Return a part of an address in which the value of each password or key is replaced by a word."""
    return _NAMED.sub(lambda found: found[0].removesuffix(found[1]) + instead, text)


@functools.lru_cache(maxsize=64)
def secrets_of(url: str) -> tuple[str, ...]:
    """Return the secrets of a camera's address, in each spelling in which a program may repeat them.

    The longest come first, so that none is replaced in part.
    """
    if not _is_on_network(url):
        return ()
    secrets = _secrets(url.partition("://")[2])
    return _longest_first({spelling for secret in secrets for spelling in _spellings(secret)})


def _is_on_network(url: str) -> bool:
    scheme, colon, _ = url.partition("://")
    return bool(colon) and scheme not in _LOCAL and not url.startswith("exec:")


def _place(rest: str) -> str:
    """Return the host of an address without its scheme, if it is certain where it stands."""
    authority, tail = _split(rest.removeprefix("//"))
    login, _, host = authority.rpartition("@")
    # An `@` after it: a password may have a character that was not quoted, and this is a part of it.
    if "@" in tail or not _HOST.fullmatch(host):
        return HIDDEN
    return f"{f'{HIDDEN}@' if login else ''}{host}{f'/{HIDDEN}' if tail not in ('', '/') else ''}"


def _split(address: str) -> tuple[str, str]:
    """Split an address without its scheme into what stands before its path or query, and the rest."""
    end = next((index for index, each in enumerate(address) if each in "/?#"), len(address))
    return address[:end], address[end:]


def _secrets(address: str) -> Iterator[str]:
    login, _, place = address.rpartition("@")
    yield login
    yield login.partition(":")[2]
    if "@" in _split(address)[1]:
        yield place  # it may be a part of the password
    for part in (address, place):
        tail = _split(part)[1]
        # A short path without its slash would be found in too many words.
        yield tail.strip("/") if len(tail) > _SHORT else tail.rstrip("/")
        yield from _NAMED.findall(tail)


def _spellings(secret: str) -> set[str]:
    return {secret, unquote(secret), quote(secret), quote(secret, safe="")}


@functools.lru_cache(maxsize=64)
def _spellings_of_whole(url: str) -> tuple[str, ...]:
    return _longest_first(_spellings(url))


def _longest_first(texts: set[str]) -> tuple[str, ...]:
    return tuple(sorted(texts - {""}, key=lambda text: (-len(text), text)))
