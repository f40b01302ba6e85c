from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import SetupError
from services.common.wire.topics import is_name
from services.pki import certificates
from services.pki.certificates import CertifiedKey

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
AUTHORITY = certificates.make_authority(NOW)


def verify_server(
    identity: CertifiedKey, host: str, at: datetime, authority: CertifiedKey = AUTHORITY
) -> None:
    policy = PolicyBuilder().store(Store([authority.certificate])).time(at.replace(tzinfo=None))
    policy.build_server_verifier(x509.DNSName(host)).verify(identity.certificate, [])


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_server_is_trusted_under_its_names_for_its_lifetime() -> None:
    server = certificates.issue_server(AUTHORITY, ["cloud.example.org", "broker"], NOW)
    for host in ("cloud.example.org", "broker"):
        verify_server(server, host, NOW)
        verify_server(server, host, NOW + timedelta(days=800))
    for host, at in (
        ("other.example.org", NOW),
        ("broker", NOW + timedelta(days=900)),
        ("broker", NOW - timedelta(days=2)),
    ):
        with pytest.raises(VerificationError):
            verify_server(server, host, at)


def test_another_authority_is_not_trusted() -> None:
    server = certificates.issue_server(AUTHORITY, ["broker"], NOW)
    with pytest.raises(VerificationError):
        verify_server(server, "broker", NOW, certificates.make_authority(NOW))


def test_a_client_is_named_and_is_no_server() -> None:
    client = certificates.issue_client(AUTHORITY, "porch", NOW).certificate
    client.verify_directly_issued_by(AUTHORITY.certificate)
    assert common_name(client) == "porch"
    assert purposes(client) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("name", [certificates.STORE, certificates.GALLERY])
def test_a_service_has_a_name_that_no_device_can_have(name: str) -> None:
    assert common_name(certificates.issue_client(AUTHORITY, name, NOW).certificate) == name
    with pytest.raises(SetupError):
        certificates.check_device_name(name)


def test_a_server_is_no_client() -> None:
    server = certificates.issue_server(AUTHORITY, ["broker"], NOW).certificate
    assert purposes(server) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_nothing_outlives_its_authority() -> None:
    late = AUTHORITY.certificate.not_valid_after_utc - timedelta(days=3)
    client = certificates.issue_client(AUTHORITY, "porch", late).certificate
    assert client.not_valid_after_utc == AUTHORITY.certificate.not_valid_after_utc


@given(st.text(max_size=70))
def test_only_device_names_get_a_certificate(name: str) -> None:
    if name in (certificates.STORE, certificates.GALLERY) or is_name(name):
        assert common_name(certificates.issue_client(AUTHORITY, name, NOW).certificate) == name
    else:
        with pytest.raises(SetupError, match="no device name"):
            certificates.issue_client(AUTHORITY, name, NOW)


@pytest.mark.parametrize(
    "host", ["", " ", "a b", "-a.org", "a..org", "https://a.org", "a.org:8883", "*", "é.org"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(SetupError, match="neither a host's name nor an IP address"):
        certificates.issue_server(AUTHORITY, ["broker", host], NOW)


def test_hosts_are_read_back() -> None:
    hosts = ["cloud.example.org", "192.0.2.7", "2001:db8::1"]
    assert certificates.hosts_of(certificates.issue_server(AUTHORITY, hosts, NOW).certificate) == hosts


def test_revoked_certificates_are_listed_and_the_list_lives_as_long_as_the_authority() -> None:
    stolen = certificates.issue_client(AUTHORITY, "stolen", NOW).certificate
    porch = certificates.issue_client(AUTHORITY, "porch", NOW).certificate
    listed = certificates.make_revocations(AUTHORITY, [certificates.revocation(stolen, NOW)], NOW)
    assert listed.is_signature_valid(AUTHORITY.key.public_key())
    assert listed.get_revoked_certificate_by_serial_number(stolen.serial_number) is not None
    assert listed.get_revoked_certificate_by_serial_number(porch.serial_number) is None
    assert listed.next_update_utc == AUTHORITY.certificate.not_valid_after_utc
