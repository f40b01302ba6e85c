"""Seals pictures for the holders of keys, and opens them: age's format, version 1, with X25519.

The same picture of the same camera and time is always sealed to the same bytes: what age chooses at random is
derived from the picture. So an id, which is made from the sealed bytes, stays the same, and a replay stores
nothing twice. The price: a reader who has the very same picture can tell that this one is sealed, unless a
secret goes into the derivation.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from services.common import canonical_base64
from services.common.errors import FaceferryError, Refused
from services.common.sealing.keys import KEY_BYTES, write_keys
from services.common.wire import times
from services.common.wire.envelope import (
    INTRO,
    MEASURED,
    NONCE_BYTES,
    OWN_STANZA,
    PIECE_BYTES,
    TAG_BYTES,
    header_of,
)
from services.common.wire.topics import Source

_FILE_KEY_BYTES = 16
_NO_NONCE = bytes(12)


class CannotOpen(FaceferryError):
    """A sealed picture cannot be opened, or does not match what is said of it; says why, for users."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a seal authenticates besides the picture.

    Attributes:
        source: the camera.
        time: when the frame was taken, UTC.
        attributes: the face's attributes, of which only those in `MEASURED` count.
    """

    source: Source
    time: datetime
    attributes: Mapping[str, str]

    @property
    def words(self) -> tuple[str, str, str]:
        """The arguments of our own stanza: the camera, the time, and a digest of the attributes."""
        # As a store keeps them: it collapses runs of spaces.
        lines = [f"{name}={' '.join(self.attributes.get(name, '').split())}\n" for name in MEASURED]
        digest = hashlib.sha256("".join(lines).encode()).digest()
        return str(self.source), times.rfc3339(self.time), _text(digest)


def new_identity() -> tuple[str, str]:
    """Return a new private key and its public key, as text; see `keys`."""
    private = X25519PrivateKey.generate()
    return write_keys(private.private_bytes_raw(), private.public_key().public_bytes_raw())


def seal(picture: bytes, recipients: Sequence[bytes], label: Label, secret: bytes = b"") -> bytes:
    """Return a picture sealed so that only the holders of these keys can open it.

    Args:
        picture: any bytes; not modified.
        recipients: public keys of 32 bytes, one or more.
        label: what else is authenticated.
        secret: see the module; must be the same wherever the same picture may be sealed. Empty: none.
    """
    chance = _chance(picture, recipients, label, secret)
    file_key = chance("file key")[:_FILE_KEY_BYTES]
    stanzas = [_stanza_for(recipient, file_key, chance(f"for {recipient.hex()}")) for recipient in recipients]
    stanzas.append(f"-> {OWN_STANZA} {' '.join(label.words)}\n\n")
    header = INTRO + "".join(stanzas).encode() + b"---"
    mac = hmac.digest(_hkdf(file_key, b"", b"header"), header, "sha256")
    nonce = chance("nonce")[:NONCE_BYTES]
    return b"".join([header, b" ", _text(mac).encode(), b"\n", nonce, *_encrypted(picture, file_key, nonce)])


def open_sealed(data: bytes, identities: Sequence[bytes], label: Label | None = None) -> bytes:
    """Return the picture inside.

    Args:
        data: a sealed picture.
        identities: private keys of 32 bytes; one has to fit.
        label: what is said of it, which has to match the seal; None: not checked.

    Raises:
        CannotOpen: no key fits, it was cut off or changed, or the label does not match.
    """
    try:
        header = header_of(data)
    except Refused as refusal:
        raise CannotOpen("this is no sealed picture") from refusal
    stanzas = _stanzas(header)
    file_key = _file_key(stanzas, identities)
    told, _, mac = header.rpartition(b" ")
    if not hmac.compare_digest(
        hmac.digest(_hkdf(file_key, b"", b"header"), told, "sha256"), _bytes(mac.strip().decode())
    ):
        raise CannotOpen("its header was changed")
    if label is not None:
        _check_label(stanzas, label)
    body = data[len(header) :]
    return _decrypted(body[NONCE_BYTES:], file_key, body[:NONCE_BYTES])


def _check_label(stanzas: Sequence[Sequence[str]], label: Label) -> None:
    sealed_with = next((words[1:-1] for words in stanzas if words[0] == OWN_STANZA), None)
    if sealed_with is None:
        raise CannotOpen("it was not sealed by Faceferry, and nothing authenticates what is said of it")
    names = ("its camera", "its time", "what is known of the face (box, score, ...)")
    for name, was, says in zip(names, sealed_with, label.words, strict=False):
        if was != says:
            raise CannotOpen(f"{name} is not what it was sealed with")
    if len(sealed_with) != len(names):
        raise CannotOpen("its label is of another version")


def _chance(
    picture: bytes, recipients: Sequence[bytes], label: Label, secret: bytes
) -> Callable[[str], bytes]:
    """Return a function from a purpose to 32 bytes that cannot be predicted without the picture."""
    parts = [b"faceferry seal v1", *recipients, *(word.encode() for word in label.words)]
    parts.append(hashlib.sha256(picture).digest())
    root = hmac.digest(secret or b"faceferry", b"\0".join(parts), "sha256")
    return lambda purpose: hmac.digest(root, purpose.encode(), "sha256")


def _stanza_for(recipient: bytes, file_key: bytes, ephemeral: bytes) -> str:
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    share = private.public_key().public_bytes_raw()
    shared = private.exchange(X25519PublicKey.from_public_bytes(recipient))
    wrapped = ChaCha20Poly1305(_wrap_key(shared, share, recipient)).encrypt(_NO_NONCE, file_key, None)
    return f"-> X25519 {_text(share)}\n{_text(wrapped)}\n"


def _file_key(stanzas: Sequence[Sequence[str]], identities: Sequence[bytes]) -> bytes:
    for identity in identities:
        private = X25519PrivateKey.from_private_bytes(identity)
        own = private.public_key().public_bytes_raw()
        for words in stanzas:
            if words[0] == "X25519" and (found := _unwrapped(words, private, own)) is not None:
                return found
    raise CannotOpen("it is sealed for other keys than these")


def _unwrapped(words: Sequence[str], private: X25519PrivateKey, own: bytes) -> bytes | None:
    share, wrapped = _bytes(words[1]), _bytes(words[-1])
    if len(share) != KEY_BYTES or len(wrapped) != _FILE_KEY_BYTES + TAG_BYTES:
        return None
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        return ChaCha20Poly1305(_wrap_key(shared, share, own)).decrypt(_NO_NONCE, wrapped, None)
    except (InvalidTag, ValueError):  # for another recipient; or an invalid share
        return None


def _stanzas(header: bytes) -> list[list[str]]:
    """Return each stanza's arguments, and as the last item its body."""
    found: list[list[str]] = []
    for line in header.decode("ascii").split("\n")[1:]:
        if line.startswith("---"):
            break
        if line.startswith("-> "):
            found.append([*line[3:].split(" "), ""])
        else:
            found[-1][-1] += line
    return found


def _encrypted(picture: bytes, file_key: bytes, nonce: bytes) -> list[bytes]:
    cipher = ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))
    pieces = _pieces(picture, PIECE_BYTES)
    return [cipher.encrypt(_piece_nonce(at, len(pieces)), piece, None) for at, piece in enumerate(pieces)]


def _decrypted(body: bytes, file_key: bytes, nonce: bytes) -> bytes:
    cipher = ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))
    pieces = _pieces(body, PIECE_BYTES + TAG_BYTES)
    try:
        return b"".join(
            cipher.decrypt(_piece_nonce(at, len(pieces)), piece, None) for at, piece in enumerate(pieces)
        )
    except (InvalidTag, ValueError) as error:
        raise CannotOpen("it was cut off or changed") from error


def _pieces(data: bytes, most_bytes: int) -> list[bytes]:
    """Return data in pieces of at most so many bytes; empty data is one empty piece."""
    return [data[start : start + most_bytes] for start in range(0, max(len(data), 1), most_bytes)]


def _piece_nonce(at: int, count: int) -> bytes:
    return at.to_bytes(11) + bytes([at == count - 1])


def _wrap_key(shared: bytes, share: bytes, recipient: bytes) -> bytes:
    return _hkdf(shared, share + recipient, b"age-encryption.org/v1/X25519")


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes by HKDF with SHA-256 (RFC 5869)."""
    root = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(root, info + b"\x01", "sha256")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Return what age's base64 spells, empty for what it refuses: padding, and any spelling but one."""
    return canonical_base64.decode(text, is_padded=False)
