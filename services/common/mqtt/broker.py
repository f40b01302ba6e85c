"""Where a broker is, and what it is shown: address, credentials, TLS, proxy."""

import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from services.common.errors import SetupError
from services.common.runtime.addresses import ENCRYPTED, MQTT_PORTS, PROXY_PORT, WEBSOCKETS
from services.common.runtime.shared_settings import CloudSettings, DeviceSettings
from services.common.runtime.trust import Trust, Untrusted

_FILES = "FACEFERRY_CLOUD_CA_FILE, FACEFERRY_CLOUD_CERT_FILE, FACEFERRY_CLOUD_KEY_FILE"

USUAL_PATH = "/mqtt"
_AWS_PORT, _AWS_HOSTS = 443, (".amazonaws.com", ".amazonaws.com.cn")


class _TlsSocket(ssl.SSLSocket):
    """A socket that closes itself when its TLS handshake fails: paho leaves it open."""

    trust = Trust()

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is called
        try:
            super().do_handshake(block)
            self.trust.check(self.getpeercert(binary_form=True))
        except Untrusted as error:
            self.close()
            raise ssl.SSLError(1, str(error)) from error
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT, RFC 9110 9.3.6).

    Attributes:
        host: its name or address.
        port: its port.
        user: the user's name; empty: the proxy asks for none.
        password: the user's.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that authenticates the user; empty without one."""
        if not self.user:
            return {}
        return {"Proxy-Authorization": f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"}


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker's address and what a connection to it needs.

    Attributes:
        url: `mqtt://[user@]host[:port]` or `mqtts://...`; `ws://[user@]host[:port][/path]` or `wss://...`
            for networks that let only web traffic out.
        password: the password of the URL's user. Without a user it is sent alone, as brokers expect that
            take tokens.
        ca_file: PEM file of the authorities that may sign the broker's certificate; None: the system's.
        cert_file: PEM file of our certificate, for mutual TLS.
        key_file: PEM file of that certificate's key.
        alpn: protocols to offer in the TLS handshake, for brokers that share a port with other servers.
        proxy: the HTTP proxy to connect through.
        trust: which certificate the broker has to show, in place of `ca_file`, for a camera's broker: such
            certificates are seldom signed by a public authority.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    alpn: tuple[str, ...] = ()
    proxy: Proxy | None = None
    trust: Trust | None = None

    @classmethod
    def local(cls, settings: DeviceSettings) -> Self:
        """Return the device's own broker."""
        secret = settings.local_mqtt_password
        return cls(settings.local_mqtt_url, secret.get_secret_value() if secret else None)

    @classmethod
    def cloud(cls, settings: CloudSettings) -> tuple[Self, ...]:
        """Return the cloud's brokers, at least one, in the order of the setting."""
        secret = settings.cloud_mqtt_password
        return tuple(
            cls(
                url,
                secret.get_secret_value() if secret else None,
                settings.cloud_ca_file,
                settings.cloud_cert_file,
                settings.cloud_key_file,
                settings.cloud_mqtt_alpn or _usual_alpn(url),
                _proxy(settings),
            )
            for url in settings.cloud_mqtt_url
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
    def websocket(self) -> str | None:
        """The URL of its WebSocket, as `wss://host:443/mqtt`, or None for plain MQTT over TCP."""
        parts = urlsplit(self.url)
        if parts.scheme not in WEBSOCKETS:
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{host}:{self.port}{parts.path or USUAL_PATH}{query}"

    @property
    def user(self) -> str | None:
        """The URL's user, unquoted, or None without one."""
        name = urlsplit(self.url).username
        return unquote(name) if name else None

    @property
    def address(self) -> str:
        """Host and port, for logs."""
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return a new TLS context for connections to it, or None for `mqtt://` and `ws://`.

        Raises:
            SetupError: certificate files that cannot be used.
        """
        if urlsplit(self.url).scheme not in ENCRYPTED:
            return None
        try:
            context = self._trusting_context()
            if self.cert_file is not None:
                # For a key with a password OpenSSL would ask on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            if self.alpn:
                context.set_alpn_protocols(list(self.alpn))
        except (OSError, ValueError) as error:
            files = _FILES if self.trust is None else "ca_file"
            raise SetupError(f"{files}: cannot be used for {self.address}: {error}") from error
        return context

    def _trusting_context(self) -> ssl.SSLContext:
        if self.trust is None:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.sslsocket_class = _TlsSocket
        else:
            context = self.trust.context()
            # The check comes before the password is sent, which is in the first packet.
            context.sslsocket_class = type("_CheckingSocket", (_TlsSocket,), {"trust": self.trust})
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def _usual_alpn(url: str) -> tuple[str, ...]:
    """Return the protocol that AWS IoT requires on port 443, which it shares with HTTPS; else none."""
    parts = urlsplit(url)
    is_aws = (
        parts.scheme == "mqtts" and parts.port == _AWS_PORT and (parts.hostname or "").endswith(_AWS_HOSTS)
    )
    return ("x-amzn-mqtt-ca",) if is_aws else ()


def _proxy(settings: CloudSettings) -> Proxy | None:
    if settings.cloud_proxy_url is None:
        return None
    parts = urlsplit(settings.cloud_proxy_url)
    secret = settings.cloud_proxy_password
    password = secret.get_secret_value() if secret else ""
    return Proxy(parts.hostname or "", parts.port or PROXY_PORT, unquote(parts.username or ""), password)
