"""The key pair for erasures: Ed25519 (RFC 8032), as PEM files, which openssl can read."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from services.common.erasure.entries import Sign, Verify


def make() -> bytes:
    """Return a new private key, as PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_of(private: str) -> bytes:
    """Return the public key of a private key, both as PEM.

    Raises:
        ValueError: `private` is not a private key.
    """
    return _load(private).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signer(private: str) -> tuple[Sign, Verify]:
    """Return functions that sign with a private key (PEM) and verify its signatures.

    Raises:
        ValueError: `private` is not a private key; the message does not repeat it.
    """
    key = _load(private)
    return key.sign, _verifier(key.public_key())


def verifier(public: str) -> Verify:
    """Return a function that verifies signatures with a public key (PEM).

    Raises:
        ValueError: `public` is not a public key.
    """
    try:
        key = load_pem_public_key(public.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("a public key is wanted as `faceferry pki erasure` makes it, erase.pub")  # noqa: TRY004
    return _verifier(key)


def _load(private: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(private.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("a private key is wanted as `faceferry pki erasure` makes it, erase.key")  # noqa: TRY004
    return key


def _verifier(key: Ed25519PublicKey) -> Verify:
    def verify(signature: bytes, data: bytes) -> bool:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return verify
