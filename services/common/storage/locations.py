"""The location of a store: its URL, parsed and checked, or a path that users give."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from services.common.errors import SetupError
from services.common.runtime.files import file_url

MOST_PREFIX_BYTES = 800
"""S3 allows keys of 1024 bytes; what follows the prefix takes at most 220."""

_WANTED = "s3://bucket/prefix or file:///path is wanted"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """A store in a folder."""

    path: Path


@dataclass(frozen=True, slots=True)
class Bucket:
    """A store in an S3 bucket, under a prefix that neither starts nor ends with `/` and may be empty."""

    name: str
    prefix: str


def parse_location(url: str) -> FolderLocation | Bucket:
    """Read `s3://bucket/prefix` or `file:///path`.

    URLs that a folder or a bucket would cut, drop or change in part are refused: faces that are not where the
    URL says are lost.

    Raises:
        ValueError: it is neither, or cannot be used; the message does not repeat it.
    """
    _check_characters(url)
    parts = urlsplit(url)
    match parts.scheme:
        case "file" if parts.netloc in ("", "localhost") and parts.path.startswith("/"):
            return FolderLocation(Path(_checked_path(_unescaped(parts.path))))
        case "s3" if parts.netloc:
            return Bucket(_bucket(parts.netloc), _prefix(_unescaped(parts.path)))
    raise ValueError(_WANTED)


def check_endpoint(url: str) -> str:
    """Return the URL of an S3 server, unchanged.

    Raises:
        ValueError: it is not one, or has parts that requests would drop.
    """
    _check_characters(url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in url:
        raise ValueError("an address such as https://s3.example.org or http://host:9000 is wanted")
    if parts.port == 0 or "@" in parts.netloc:  # asking for the port also checks it
        raise ValueError("no user belongs here, and port 0 is none")
    return url


def _check_characters(url: str) -> None:
    if _has_control_characters(url) or url != url.strip():
        raise ValueError("it has control characters or spaces around it, or is not UTF-8")
    if "?" in url or "#" in url:
        raise ValueError("no query and no fragment belong here; '?' and '#' in a name are %3F and %23")


def _unescaped(path: str) -> str:
    if _BAD_ESCAPE.search(path):
        raise ValueError("'%' stands for no character by itself; in a name it is %25")
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError("its escapes are not UTF-8") from error
    if _has_control_characters(text):
        raise ValueError("its escapes stand for control characters")
    return text


def _has_control_characters(text: str) -> bool:
    """Say whether there are control characters, line ends of any kind, or bytes that are not text."""
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


def _checked_path(path: str) -> str:
    if any(len(name.encode()) > _LONGEST_NAME for name in path.split("/")):
        raise ValueError(f"a name in it is longer than {_LONGEST_NAME} bytes")
    return path


def _bucket(name: str) -> str:
    if _BUCKET.fullmatch(name) is None:
        raise ValueError(
            "no bucket has such a name: letters, digits, '.', '_' and '-'; a server's address goes to "
            "FACEFERRY_S3_ENDPOINT_URL"
        )
    return name


def _prefix(path: str) -> str:
    prefix = path.removeprefix("/").removesuffix("/")
    if "//" in path or any(name in (".", "..") for name in prefix.split("/")):
        raise ValueError("no key has '//', '.' or '..' in its path")
    if len(prefix.encode()) > MOST_PREFIX_BYTES:
        raise ValueError(f"a prefix has at most {MOST_PREFIX_BYTES} bytes")
    return prefix


DEFAULT_STORE = "faceferry-data/faces"
"""Where `faceferry up` puts faces."""


def store_url(store: str) -> str:
    """Return the URL of a store given as one or as a folder's path.

    Raises:
        SetupError: it cannot be one; the message is one line.
    """
    try:
        url = store if "://" in store else file_url(store)
        parse_location(url)
    except ValueError as error:
        raise SetupError(f"the store {store!a} cannot be used: {error}") from error
    return url


def state_folder(url: str, environment: Mapping[str, str]) -> Path:
    """Return the folder with the spool and journal of `faceferry up` for one store.

    Raises:
        SetupError: the user's home folder is not known.
    """
    try:
        home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise SetupError(
            "neither XDG_STATE_HOME nor HOME is set: a run has to keep faces somewhere"
        ) from None
    return Path(home) / "faceferry" / f"up-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
