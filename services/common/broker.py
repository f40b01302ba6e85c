"""Where a broker is, and how to be let in."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from services.common.errors import SetupError
from services.common.settings import MQTT_PORTS, CloudSettings, DeviceSettings

_FILES = "FACEFERRY_CLOUD_CA_FILE, FACEFERRY_CLOUD_CERT_FILE, FACEFERRY_CLOUD_KEY_FILE"


class _TlsSocket(ssl.SSLSocket):
    """A socket that is not left open by a handshake that fails, which paho forgets."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is called
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is and how to be let in.

    Attributes:
        url: `mqtt://[user@]host[:port]` or `mqtts://...`.
        password: for the URL's user; without one it is sent alone, as brokers want that take tokens.
        ca_file: who vouches for the broker; the system's authorities by default.
        cert_file: our certificate, for mutual TLS, and
        key_file: its key.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def local(cls, settings: DeviceSettings) -> Self:
        """Return the broker on this device."""
        secret = settings.local_mqtt_password
        return cls(settings.local_mqtt_url, secret.get_secret_value() if secret else None)

    @classmethod
    def cloud(cls, settings: CloudSettings) -> Self:
        """Return the broker in the cloud."""
        secret = settings.cloud_mqtt_password
        return cls(
            settings.cloud_mqtt_url,
            secret.get_secret_value() if secret else None,
            settings.cloud_ca_file,
            settings.cloud_cert_file,
            settings.cloud_key_file,
        )

    @property
    def host(self) -> str:
        """Its name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        parts = urlsplit(self.url)
        return parts.port or MQTT_PORTS[parts.scheme]

    @property
    def user(self) -> str | None:
        """Whom the password is for."""
        name = urlsplit(self.url).username
        return unquote(name) if name else None

    @property
    def address(self) -> str:
        """Host and port, for logs."""
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what connections to it are encrypted with; nothing for `mqtt://`.

        Raises:
            SetupError: certificate files that cannot be used.
        """
        if urlsplit(self.url).scheme != "mqtts":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.sslsocket_class = _TlsSocket
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert_file is not None:
                # A key with a password would be asked for it on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as error:
            raise SetupError(f"{_FILES}: cannot be used for {self.address}: {error}") from error
        return context
