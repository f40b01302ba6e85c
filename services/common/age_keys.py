"""Keys for sealed pictures, as `age` writes them."""

from services.common import bech32

KEY_BYTES = 32
_RECIPIENT, _IDENTITY = "age", "age-secret-key-"


def read_recipient(text: str) -> bytes:
    """Read a public key, `age1...`.

    Raises:
        ValueError: it is none.
    """
    return _read(text, _RECIPIENT, "a public key such as age1... is wanted")


def read_identities(text: str) -> list[bytes]:
    """Read a file of private keys, `AGE-SECRET-KEY-1...`, one a line; `#` begins a comment.

    Raises:
        ValueError: there is none in it, or something else; never says what.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = [
        _read(line, _IDENTITY, "a private key such as AGE-SECRET-KEY-1... is wanted")
        for line in lines
        if line and not line.startswith("#")
    ]
    if not keys:
        raise ValueError("there is no private key in it")
    return keys


def write_keys(identity: bytes, recipient: bytes) -> tuple[str, str]:
    """Return a private and a public key as text."""
    return bech32.encode(_IDENTITY, identity).upper(), bech32.encode(_RECIPIENT, recipient)


def _read(text: str, prefix: str, wanted: str) -> bytes:
    try:
        found, key = bech32.decode(text.strip())
    except ValueError:
        found, key = "", b""
    if found != prefix or len(key) != KEY_BYTES:
        raise ValueError(wanted)
    return key
