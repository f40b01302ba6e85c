import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from services.common.mqtt.credentials import (
    DAY_S,
    SOON_S,
    Reminders,
    authority_expiry_s,
    chain_expiry_s,
    expiry_s,
)
from services.pki import certificates

AUTHORITY = certificates.make_authority(datetime(1980, 1, 1, tzinfo=UTC))
"""From 1980, for its certificates are to end whenever a test wants it."""
CERTIFICATE = certificates.issue_client(AUTHORITY, "porch", datetime(1985, 1, 1, tzinfo=UTC)).certificate
DER = CERTIFICATE.public_bytes(Encoding.DER)


def pem(*found: x509.Certificate) -> bytes:
    return b"\n".join(each.public_bytes(Encoding.PEM) for each in found)


@given(st.datetimes(datetime(1951, 1, 1), datetime(9999, 12, 1)))  # noqa: DTZ001 - Hypothesis wants it so
def test_the_end_is_read_out_of_any_certificate(end: datetime) -> None:
    until = end.replace(microsecond=0, tzinfo=UTC)
    key = AUTHORITY.key
    made = (
        x509.CertificateBuilder()
        .subject_name(CERTIFICATE.subject)
        .issuer_name(CERTIFICATE.issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(1950, 6, 1, tzinfo=UTC))
        .not_valid_after(until)
        .sign(key, CERTIFICATE.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    assert expiry_s(made.public_bytes(Encoding.DER)) == until.timestamp()


def test_a_chain_ends_with_its_first_and_authorities_with_their_last() -> None:
    own, authority = (each.not_valid_after_utc.timestamp() for each in (CERTIFICATE, AUTHORITY.certificate))
    assert own < authority
    for both in (pem(CERTIFICATE, AUTHORITY.certificate), pem(AUTHORITY.certificate, CERTIFICATE)):
        assert chain_expiry_s(b"text before\n" + both) == own
        assert authority_expiry_s(both + b"text behind\n") == authority


@pytest.mark.parametrize("content", [b"", b"none", pem(CERTIFICATE)[:200], b"\xff" * 300, DER])
def test_a_file_without_a_whole_certificate_is_refused(content: bytes) -> None:
    for parse in (chain_expiry_s, authority_expiry_s):
        with pytest.raises(ValueError, match="certificate"):
            parse(content)


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(DER) - 1).map(lambda size: DER[:size])))
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        expiry_s(der)


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_a_certificate_with_a_wrong_byte_has_a_time_or_is_refused(at: int, byte: int) -> None:
    with contextlib.suppress(ValueError):
        changed = expiry_s(DER[:at] + bytes([byte]) + DER[at + 1 :])
        # A year has two digits here.
        assert datetime(1950, 1, 1, tzinfo=UTC).timestamp() <= changed
        assert changed < datetime(2050, 1, 1, tzinfo=UTC).timestamp()


def test_an_end_is_spoken_of_once_a_day_when_it_is_near() -> None:
    reminders = Reminders()
    end_s = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    hours = [end_s - SOON_S + timedelta(hours=hour).total_seconds() for hour in range(-48, 73)]
    assert [hour - 48 for hour, now_s in enumerate(hours) if reminders.is_due("own", end_s, now_s)] == [
        0,
        24,
        48,
        72,
    ]
    assert reminders.is_due("authority", end_s, hours[-1])
    assert not reminders.is_due("own", end_s + 2 * SOON_S, hours[-1])
    assert reminders.is_due("own", end_s, end_s + DAY_S), "also when it is over"
    assert reminders.is_due("own", end_s, end_s - DAY_S), "also by a clock that was set back"
