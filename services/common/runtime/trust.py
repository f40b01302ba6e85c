"""Which certificate a camera, or a camera's broker, has to show."""

import hashlib
import ssl
from dataclasses import dataclass


class Untrusted(Exception):
    """A server's certificate is not the one that was named."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates are accepted; by default as for any web server: by authority and name.

    Attributes:
        is_checked: whether the certificate is checked at all.
        ca_file: path of a PEM file of the authorities to trust instead of the system's, or of the server's
            own certificate; None: the system's.
        sha256: digest of the only certificate to accept, lower-case hexadecimal; nothing else counts then.
    """

    is_checked: bool = True
    ca_file: str | None = None
    sha256: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return a new TLS context; after the handshake `check` has to be called.

        Raises:
            OSError: `ca_file` cannot be read, or holds no certificate.
        """
        if self.sha256 or not self.is_checked:
            return _lenient()
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ca_file:
            # A certificate that the user names is accepted, even a leaf, or one that is badly made.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def check(self, certificate: bytes | None) -> None:
        """Check the certificate that a server has shown against `sha256`, if that is set.

        Args:
            certificate: the certificate, DER; None: it has shown none.

        Raises:
            Untrusted: it is another one.
        """
        if self.is_checked and self.sha256 and digest(certificate) != self.sha256:
            raise Untrusted(f"it shows another certificate than the one that is named: {digest(certificate)}")


ANY_CERTIFICATE = Trust(is_checked=False)


def digest(certificate: bytes | None) -> str:
    """Return the SHA-256 of a certificate, DER, in lower-case hexadecimal."""
    return hashlib.sha256(certificate or b"").hexdigest()


def advice(error: ssl.SSLCertVerificationError, shows: str) -> str:
    """Return what is wrong with a camera's certificate and what to do, for users.

    Args:
        error: the failed verification.
        shows: the digest of the certificate that the camera shows; empty: not known.
    """
    this_one = f"add ?tls_sha256={shows} if its SHA-256 is that of your camera, or " if shows else "add "
    return (
        f"its certificate is not trusted ({error.verify_message.rstrip('.')}): {this_one}"
        "?ca_file=FILE with the authority that signed it; ?tls_verify=0 trusts any server"
    )


def _lenient() -> ssl.SSLContext:
    """Return a context that accepts any certificate, and the old protocols and short keys of old cameras."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
