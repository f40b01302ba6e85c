"""What has become of each certificate that was ever issued: pure, with the time as an argument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from services.common.mqtt.credentials import SOON_S
from services.pki.certificates import CLOCK_TOLERANCE, GALLERY, STORE

AUTHORITY = "_authority"
"""What the authority's own certificate is listed as."""

_SOON = timedelta(seconds=SOON_S)


class State(StrEnum):
    """What a certificate is good for."""

    VALID = "valid"
    EXPIRES_SOON = "expires soon"
    SUPERSEDED = "superseded"
    """It is still let in, although a newer one was made in its place."""
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the authority has signed.

    Attributes:
        name: whose it is: a device's, `_store`, `_gallery`, `_server`, or `_authority`.
        certificate: the certificate.
        is_current: whether it is the one in use, as far as the folder knows.
        is_revoked: whether it is on the list.
    """

    name: str
    certificate: x509.Certificate
    is_current: bool
    is_revoked: bool

    @property
    def serial(self) -> str:
        """Its serial number, in hexadecimal."""
        return f"{self.certificate.serial_number:x}"

    @property
    def until(self) -> datetime:
        """When it expires, UTC."""
        return self.certificate.not_valid_after_utc

    def state(self, now: datetime) -> State:
        """Return what it is good for now."""
        if self.is_revoked:
            return State.REVOKED
        if self.until <= now:
            return State.EXPIRED
        if not self.is_current:
            return State.SUPERSEDED
        return State.EXPIRES_SOON if self.until - now <= _SOON else State.VALID

    def is_let_in(self, now: datetime) -> bool:
        """Say whether a broker would take it, even one whose clock is a little late."""
        return not self.is_revoked and self.until + CLOCK_TOLERANCE > now


def may_be_incomplete(issued: Sequence[Issued], name: str) -> bool:
    """Say whether a service may have had certificates that are not known any more.

    Versions before this register kept no certificate of a service that `renew` had replaced. The first ones
    are as old as the authority.
    """
    begins = [each.certificate.not_valid_before_utc for each in of(issued, name)]
    authority = [each.certificate.not_valid_before_utc for each in of(issued, AUTHORITY)]
    return name in (STORE, GALLERY) and min(begins) > min(authority)


def of(issued: Iterable[Issued], name: str, serial: int | None = None) -> list[Issued]:
    """Return the certificates of a name; with a serial number that one of them, if it is one."""
    return [each for each in issued if each.name == name and serial in (None, each.certificate.serial_number)]
