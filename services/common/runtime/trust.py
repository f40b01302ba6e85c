"""Whose certificate a camera, or a broker that one publishes to, has to show."""

import hashlib
import ssl
from dataclasses import dataclass


class Untrusted(Exception):
    """A camera's certificate is not the one that was named."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What makes a certificate good; by default what makes any web server's: who signed it, and its name.

    Attributes:
        is_checked: whether it is looked at at all.
        ca_file: who may have signed it, in place of those whom the system trusts: PEM.
        sha256: the digest of the one certificate that will do, in hexadecimal digits. Nothing else counts
            then.
    """

    is_checked: bool = True
    ca_file: str | None = None
    sha256: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return what to speak TLS with; `check` has to follow.

        Raises:
            OSError: the file cannot be read, or holds no certificate.
        """
        if self.sha256 or not self.is_checked:
            return _lenient()
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ca_file:
            # Whoever names a certificate means it, be it the camera's own or made with little care.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def check(self, certificate: bytes | None) -> None:
        """Return if a server that was reached shows the certificate that is named, if one is.

        Args:
            certificate: what it shows, DER.

        Raises:
            Untrusted: it does not.
        """
        if self.is_checked and self.sha256 and digest(certificate) != self.sha256:
            raise Untrusted(f"it shows another certificate than the one that is named: {digest(certificate)}")


ANY_CERTIFICATE = Trust(is_checked=False)


def digest(certificate: bytes | None) -> str:
    """Return the SHA-256 of a certificate, DER, in hexadecimal digits."""
    return hashlib.sha256(certificate or b"").hexdigest()


def advice(error: ssl.SSLCertVerificationError, shows: str) -> str:
    """Return what is wrong with a certificate, and what to do.

    Args:
        error: what is wrong.
        shows: the digest of what the camera shows; empty: not known.
    """
    this_one = f"add ?tls_sha256={shows} if its SHA-256 is that of your camera, or " if shows else "add "
    return (
        f"its certificate is not trusted ({error.verify_message.rstrip('.')}): {this_one}"
        "?ca_file=FILE with whoever signed it; ?tls_verify=0 trusts anybody who answers"
    )


def _lenient() -> ssl.SSLContext:
    """Return what takes any certificate, and the old protocols and short keys of old cameras."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
