"""Certificates as cameras have them."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from services.pki.certificates import issue_server, make_authority


@dataclass(frozen=True, slots=True)
class Shown:
    """What a camera shows, and who vouches for it.

    Attributes:
        certificate: PEM.
        key: PEM.
        authority: PEM; of one that signed its own the same as `certificate`.
    """

    certificate: Path
    key: Path
    authority: Path

    @property
    def sha256(self) -> str:
        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return found.fingerprint(hashes.SHA256()).hex()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def signed_for(host: str, folder: Path) -> Shown:
    """Make a certificate for a host, of an authority of its own."""
    authority = make_authority(datetime.now(UTC))
    server = issue_server(authority, [host], datetime.now(UTC))
    return _write(folder, server.certificate, server.key, authority.certificate)


def self_signed(folder: Path) -> Shown:
    """Make a certificate as a camera makes its own: without a single name by which anybody asks for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IPCamera")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return _write(folder, made, key, made)


def _write(
    folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> Shown:
    folder.mkdir(exist_ok=True)
    shown = Shown(folder / "camera.crt", folder / "camera.key", folder / "authority.crt")
    shown.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown.key.write_bytes(pem)
    shown.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    return shown
