"""The state of each certificate that was ever issued. Pure: time is an argument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from services.common.mqtt.credentials import SOON_S
from services.pki.certificates import CLOCK_TOLERANCE, GALLERY, STORE

AUTHORITY = "_authority"
"""The name under which the authority's own certificate is listed."""

_SOON = timedelta(seconds=SOON_S)


class State(StrEnum):
    """The state of a certificate."""

    VALID = "valid"
    EXPIRES_SOON = "expires soon"
    SUPERSEDED = "superseded"
    """It is still valid, although a newer one was made in its place."""
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the authority has signed.

    Attributes:
        name: its holder: a device, `_store`, `_gallery`, `_server`, or `_authority`.
        certificate: the certificate.
        is_current: whether it is the newest of its holder, by the folder's files.
        is_revoked: whether it is on the list of revocations.
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
        """Return its state at a time."""
        if self.is_revoked:
            return State.REVOKED
        if self.until <= now:
            return State.EXPIRED
        if not self.is_current:
            return State.SUPERSEDED
        return State.EXPIRES_SOON if self.until - now <= _SOON else State.VALID

    def is_let_in(self, now: datetime) -> bool:
        """Say whether a broker would accept it, even one whose clock is up to a day late."""
        return not self.is_revoked and self.until + CLOCK_TOLERANCE > now


def may_be_incomplete(issued: Sequence[Issued], name: str) -> bool:
    """Say whether a service may have had certificates that are not known here.

    Versions before this register kept no certificate of a service that `renew` had replaced. The first ones
    are as old as the authority.
    """
    begins = [each.certificate.not_valid_before_utc for each in of(issued, name)]
    authority = [each.certificate.not_valid_before_utc for each in of(issued, AUTHORITY)]
    return name in (STORE, GALLERY) and min(begins) > min(authority)


def of(issued: Iterable[Issued], name: str, serial: int | None = None) -> list[Issued]:
    """Return the certificates of a name; with a serial number only the one that has it."""
    return [each for each in issued if each.name == name and serial in (None, each.certificate.serial_number)]
