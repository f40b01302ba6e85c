"""Certificates of a private authority, and their files. Pure: time is an argument."""

import io
import ipaddress
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.common.errors import SetupError
from services.common.wire.topics import is_name
from services.pki.files import Owner, mode_of

STORE = "_store"
"""The store's common name; no device can have it, because device names do not begin with `_`."""
GALLERY = "_gallery"
"""The gallery's common name."""
SERVER = "_server"
"""The name of the broker's certificates here; their common name is a host's."""

AUTHORITY_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=825)
CLIENT_LIFETIME = timedelta(days=825)
CLOCK_TOLERANCE = timedelta(days=1)
"""Certificates are valid from a day before they are made: small machines' clocks may be late."""

_HOST_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(now: datetime) -> CertifiedKey:
    """Return a new authority, which can sign certificates and revocations and no other authority."""
    key = _make_key()
    name = _name("faceferry authority")
    builder = (
        _builder(name, name, key, now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
    )
    return CertifiedKey(builder.sign(key, hashes.SHA256()), key)


def issue_client(
    authority: CertifiedKey, name: str, now: datetime, lifetime: timedelta = CLIENT_LIFETIME
) -> CertifiedKey:
    """Return a new client certificate for a device, the store or the gallery.

    Raises:
        SetupError: `name` is neither a device's name nor the store's or the gallery's identity.
    """
    if name not in (STORE, GALLERY):
        check_device_name(name)
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH
    return _issue(authority, name, purpose=purpose, hosts=(), now=now, lifetime=lifetime)


def check_device_name(name: str) -> None:
    """Return if this is a valid device name.

    Raises:
        SetupError: it is not.
    """
    if not is_name(name):
        raise SetupError(f"{name!r} is no device name: lower-case letters, digits and '-', at most 63")


def issue_server(
    authority: CertifiedKey, hosts: Sequence[str], now: datetime, lifetime: timedelta = SERVER_LIFETIME
) -> CertifiedKey:
    """Return a new certificate for the broker.

    Args:
        authority: signs it.
        hosts: the broker's host names and addresses; the first is the common name.
        now: the time, UTC.
        lifetime: how long it is valid; not longer than the authority.

    Raises:
        SetupError: one of `hosts` is neither a host's name nor an IP address.
    """
    names = [_host(host) for host in hosts]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    return _issue(authority, hosts[0], purpose=purpose, hosts=names, now=now, lifetime=lifetime)


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses that a server's certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def make_revocations(
    authority: CertifiedKey, revoked: Sequence[x509.RevokedCertificate], now: datetime
) -> x509.CertificateRevocationList:
    """Return the signed list of revoked certificates.

    It is valid as long as the authority: a broker with an expired list refuses all clients.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - CLOCK_TOLERANCE)
        .next_update(authority.certificate.not_valid_after_utc)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256())


def revocation(certificate: x509.Certificate, now: datetime) -> x509.RevokedCertificate:
    """Return the entry that revokes a certificate."""
    builder = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
    return builder.revocation_date(now).build()


def _issue(
    authority: CertifiedKey,
    common_name: str,
    *,
    purpose: x509.ObjectIdentifier,
    hosts: Sequence[x509.GeneralName],
    now: datetime,
    lifetime: timedelta,
) -> CertifiedKey:
    key = _make_key()
    issuer = authority.certificate
    lifetime = min(lifetime, issuer.not_valid_after_utc - now)
    builder = (
        _builder(_name(common_name), issuer.subject, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_authority_key(issuer), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return CertifiedKey(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _make_key() -> ec.EllipticCurvePrivateKey:
    # P-256: every TLS library has it, and a handshake costs a Pi a tenth of what RSA does.
    return ec.generate_private_key(ec.SECP256R1())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in text.split(".")):
        raise SetupError(f"{text!r} is neither a host's name nor an IP address")
    return x509.DNSName(text)


def pair(stem: str, identity: CertifiedKey) -> dict[str, bytes]:
    """Return an identity's two files by name, the key first."""
    return {f"{stem}.key": key_pem(identity), f"{stem}.crt": pem(identity.certificate)}


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(identity: CertifiedKey) -> bytes:
    """Return an identity's key as PEM, not encrypted."""
    return identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_bundle(identity: CertifiedKey, public: Mapping[str, bytes], owner: Owner, now: datetime) -> bytes:
    """Return the bundle for a device: a tar archive of its files.

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
