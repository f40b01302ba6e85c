"""Addresses of brokers, proxies and hosts in settings, checked when these are read."""

from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
)

MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
WEBSOCKETS = frozenset({"ws", "wss"})
ENCRYPTED = frozenset({"mqtts", "wss"})
PROXY_PORT = 3128
MOST_SECRET_BYTES = 65_535
"""MQTT's limit for a user's name, and for a password: their length has 16 bits."""
MOST_ALPN_BYTES = 255
MOST_BROKERS = 16
"""Each broker is a label value of metrics, and a permanent connection of the store and the gallery."""


def _host(text: str) -> str:
    """Return a host's name or address unchanged if its form allows to look it up."""
    _check_one_word(text)
    try:
        text.encode("idna")
    except UnicodeError:
        raise ValueError("no host has such a name: what stands between dots has 1 to 63 letters") from None
    return text


def _check_one_word(text: str) -> None:
    """Refuse characters that `urlsplit` would drop silently, and others that no address has."""
    if not text.isprintable() or " " in text:
        raise ValueError("no spaces, line ends or control characters belong here, nor what is not UTF-8")


def _check_user(quoted: str) -> None:
    user = unquote(quoted, errors="surrogateescape")
    if not user.isprintable() or len(user.encode(errors="replace")) > MOST_SECRET_BYTES:
        raise ValueError("the user's name is not UTF-8, has control characters, or is too long")


def _check_place(parts: SplitResult) -> None:
    _host(parts.hostname or "")
    _check_user(parts.username or "")


def mqtt_url(text: str) -> str:
    """Return a broker's URL unchanged if it is valid.

    Raises:
        ValueError: it is not; the message says what is wanted, for users.
    """
    _check_one_word(text)
    parts = urlsplit(text)
    if parts.scheme not in MQTT_PORTS or not parts.hostname or parts.port == 0:
        raise ValueError(
            "an address such as mqtt://host:1883, mqtts://user@host:8883 or wss://host/mqtt is wanted"
        )
    if parts.fragment or parts.password:
        raise ValueError("no '#' or password belongs here; the password has a setting of its own")
    if (parts.path not in ("", "/") or parts.query) and parts.scheme not in WEBSOCKETS:
        raise ValueError("no path or query belongs here, but for ws:// and wss://")
    _check_place(parts)
    return text


def _proxy_url(text: str) -> str:
    _check_one_word(text)
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.port == 0:
        raise ValueError("an address such as http://user@proxy:3128 is wanted")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.password:
        raise ValueError("no path, query or password belongs here; the password has a setting of its own")
    _check_place(parts)
    return text


def _alpn(protocol: str) -> str:
    if not (protocol.isascii() and protocol.isprintable() and 1 <= len(protocol) <= MOST_ALPN_BYTES):
        raise ValueError("a protocol's name has 1 to 255 letters")
    return protocol


def _split_brokers(value: object) -> object:
    """Return the parts between commas. Only spaces are stripped: a line end is refused later."""
    return (
        [part.strip(" ") for part in value.split(",") if part.strip(" ")] if isinstance(value, str) else value
    )


def _brokers(urls: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(urls) <= MOST_BROKERS:
        raise ValueError(f"1 to {MOST_BROKERS} brokers are wanted, not {len(urls)}")
    places = [_place(url) for url in urls]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise ValueError(f"{twice} stands there twice")
    return urls


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or MQTT_PORTS[parts.scheme]}"


HostName = Annotated[str, AfterValidator(_host)]
Alpn = Annotated[str, AfterValidator(_alpn)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
MqttUrl = Annotated[str, AfterValidator(mqtt_url)]
BrokerUrls = Annotated[tuple[MqttUrl, ...], BeforeValidator(_split_brokers), AfterValidator(_brokers)]
"""One broker or several, with commas between."""
