"""What may be said of a camera's address: where the camera is, and nothing that opens it.

Cameras take passwords in every part of their addresses: before the host, in the path
(`/user=admin_password=x_channel=1`), in the query; or the path is itself the secret. So nothing is said of an
address on a network but its scheme and its host.
"""

import functools
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"

_SHORT = 5

_LOCAL = frozenset({"file", "v4l2", "csi", "rpicam", "test"})
"""Where these are is no secret, and what one has to know."""
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://[^\s'\"]*[^\s'\":;,.!)]")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d{1,5})?")
_NAMED = re.compile(
    r"(?:pass\w*|pwd|psw|token|key|secret|auth\w*)=([^&;/]+?)(?=_[a-z]+=|[&;/]|$)", re.IGNORECASE
)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")


def shown(url: str) -> str:
    """Return what may be said of a camera's address: scheme and host, or a command's program."""
    scheme, _, rest = url.partition(":")
    if scheme == "exec":
        program, space, _words = rest.strip().partition(" ")
        return f"exec:{program} {HIDDEN}" if space else url
    return url if scheme in _LOCAL else f"{scheme}://{_place(rest)}"


def redact(text: str, url: str = "") -> str:
    """Take what opens a camera, and control characters, out of what anybody says.

    Args:
        text: what is said.
        url: the address of the camera that it may be about, with all that is in it.
    """
    # Whole first: of an address with an odd password nothing but the address tells where it ends.
    for spelling in _spellings_of_whole(url):
        text = text.replace(spelling, shown(url))
    text = _URL.sub(lambda found: shown(found[0]), text)
    for secret in secrets_of(url):
        text = text.replace(secret, HIDDEN)
    return _UNPRINTABLE.sub(" ", text)


def without_named(text: str, instead: str) -> str:
    """Return a part of an address with another word in the place of what it calls a password or a key."""
    return _NAMED.sub(lambda found: found[0].removesuffix(found[1]) + instead, text)


@functools.lru_cache(maxsize=64)
def secrets_of(url: str) -> tuple[str, ...]:
    """Return what of a camera's address must not be said, in each spelling in which a program may repeat it.

    The longest come first, for none is to be hidden by half.
    """
    if not _is_on_network(url):
        return ()
    secrets = _secrets(url.partition("://")[2])
    return _longest_first({spelling for secret in secrets for spelling in _spellings(secret)})


def _is_on_network(url: str) -> bool:
    scheme, colon, _ = url.partition("://")
    return bool(colon) and scheme not in _LOCAL and not url.startswith("exec:")


def _place(rest: str) -> str:
    """Return the host of what follows a scheme, if there can be no doubt where it stands."""
    authority, tail = _split(rest.removeprefix("//"))
    login, _, host = authority.rpartition("@")
    # An `@` further on: a password may have had a character that belongs quoted, and this is no host yet.
    if "@" in tail or not _HOST.fullmatch(host):
        return HIDDEN
    return f"{f'{HIDDEN}@' if login else ''}{host}{f'/{HIDDEN}' if tail not in ('', '/') else ''}"


def _split(address: str) -> tuple[str, str]:
    """Return what stands before the path and the query, and these."""
    end = next((index for index, each in enumerate(address) if each in "/?#"), len(address))
    return address[:end], address[end:]


def _secrets(address: str) -> Iterator[str]:
    login, _, place = address.rpartition("@")
    yield login
    yield login.partition(":")[2]
    if "@" in _split(address)[1]:
        yield place  # which may be no place at all
    for part in (address, place):
        tail = _split(part)[1]
        # A short one without its slash would be a part of too many words.
        yield tail.strip("/") if len(tail) > _SHORT else tail.rstrip("/")
        yield from _NAMED.findall(tail)


def _spellings(secret: str) -> set[str]:
    return {secret, unquote(secret), quote(secret), quote(secret, safe="")}


@functools.lru_cache(maxsize=64)
def _spellings_of_whole(url: str) -> tuple[str, ...]:
    return _longest_first(_spellings(url))


def _longest_first(texts: set[str]) -> tuple[str, ...]:
    return tuple(sorted(texts - {""}, key=lambda text: (-len(text), text)))
