"""Keys of sealed pictures as text with a checksum, in `age`'s format (Bech32, BIP 173, of any length)."""

_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE_OF = {letter: value for value, letter in enumerate(_LETTERS)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LETTERS = 6


def encode(prefix: str, data: bytes) -> str:
    """Return data as Bech32 text, in lower case."""
    values = _regroup(data, 8, 5, is_padded=True)
    check = _polymod([*_expanded(prefix), *values, *[0] * _CHECKSUM_LETTERS]) ^ 1
    values += [(check >> 5 * (5 - index)) & 31 for index in range(_CHECKSUM_LETTERS)]
    return f"{prefix}1{''.join(_LETTERS[value] for value in values)}"


def decode(text: str) -> tuple[str, bytes]:
    """Return the prefix, in lower case, and the data of a Bech32 text.

    Raises:
        ValueError: its form or its checksum is wrong.
    """
    if text not in (text.lower(), text.upper()):
        raise ValueError("letters of both cases")
    prefix, mark, letters = text.lower().rpartition("1")
    if not mark or not prefix or len(letters) < _CHECKSUM_LETTERS or not set(letters) <= set(_LETTERS):
        raise ValueError("no key")
    values = [_VALUE_OF[letter] for letter in letters]
    if _polymod([*_expanded(prefix), *values]) != 1:
        raise ValueError("a letter of it is wrong")
    return prefix, bytes(_regroup(values[:-_CHECKSUM_LETTERS], 5, 8, is_padded=False))


def _expanded(prefix: str) -> list[int]:
    return [*(ord(letter) >> 5 for letter in prefix), 0, *(ord(letter) & 31 for letter in prefix)]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for index, generator in enumerate(_GENERATOR):
            check ^= generator if top >> index & 1 else 0
    return check


def _regroup(values: bytes | list[int], width: int, to_width: int, *, is_padded: bool) -> list[int]:
    held = bits = 0
    grouped = []
    for value in values:
        held, bits = held << width | value, bits + width
        while bits >= to_width:
            bits -= to_width
            grouped.append(held >> bits & (1 << to_width) - 1)
    if is_padded and bits:
        grouped.append(held << (to_width - bits) & (1 << to_width) - 1)
    elif not is_padded and (bits >= width or held & (1 << bits) - 1):
        raise ValueError("its end is no key's")
    return grouped


KEY_BYTES = 32
_RECIPIENT, _IDENTITY = "age", "age-secret-key-"


def read_recipient(text: str) -> bytes:
    """Return the 32 bytes of a public key, `age1...`.

    Raises:
        ValueError: it is not a public key.
    """
    return _read(text, _RECIPIENT, "a public key such as age1... is wanted")


def read_identities(text: str) -> list[bytes]:
    """Return the private keys, 32 bytes each, in a file of `AGE-SECRET-KEY-1...` lines; `#` begins a comment.

    Raises:
        ValueError: it holds no key, or something else; the message never repeats its content.
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
    """Return a private and a public key, 32 bytes each, as text."""
    return encode(_IDENTITY, identity).upper(), encode(_RECIPIENT, recipient)


def _read(text: str, prefix: str, wanted: str) -> bytes:
    try:
        found, key = decode(text.strip())
    except ValueError:
        found, key = "", b""
    if found != prefix or len(key) != KEY_BYTES:
        raise ValueError(wanted)
    return key
