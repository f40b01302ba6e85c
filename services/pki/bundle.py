"""What certificates and keys look like in files."""

import io
import tarfile
from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.pki.certificates import Identity
from services.pki.files import Owner, mode_of


def pair(stem: str, identity: Identity) -> dict[str, bytes]:
    """Return an identity's two files by name, the key first."""
    return {f"{stem}.key": key_pem(identity), f"{stem}.crt": pem(identity.certificate)}


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as text."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(identity: Identity) -> bytes:
    """Return an identity's key as text, not encrypted."""
    return identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pack(identity: Identity, public: Mapping[str, bytes], owner: Owner, now: datetime) -> bytes:
    """Return the archive with what a device needs.

    Args:
        identity: the device's.
        public: files that every device gets, by name: `ca.crt`, and `erase.pub` if there is one.
        owner: of the files on the device.
        now: when they were made.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as bundle:
        for name, content in {**public, **pair("device", identity)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = mode_of(name)
            member.mtime = int(now.timestamp())
            member.uid, member.gid = owner.uid, owner.gid
            bundle.addfile(member, io.BytesIO(content))
    return packed.getvalue()
