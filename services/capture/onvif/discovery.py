"""WS-Discovery as ONVIF has it (Core Specification, section 7; WS-Discovery, April 2005), and XML. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError, fromstring

MOST_BYTES = 256 * 1024


class NotXml(ValueError):
    """The bytes are no XML that may be read; says why."""


def parse(data: bytes) -> Element:
    """Return a document's root.

    Raises:
        NotXml: it is not XML, is larger than `MOST_BYTES`, or has a document type, which can define entities.
    """
    if len(data) > MOST_BYTES:
        raise NotXml("more than a camera has to say")
    if b"\0" in data or b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise NotXml("a document type, which no SOAP message has")
    try:
        return fromstring(data)  # noqa: S314 - without a document type there are no entities
    except (ParseError, ValueError, LookupError) as error:  # the encoding may be unknown
        raise NotXml(str(error)) from error


def name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def every(element: Element, wanted: str) -> Iterator[Element]:
    """Yield all elements of a name, without namespace, below another."""
    return (each for each in element.iter() if name(each) == wanted)


def first(element: Element | None, *path: str) -> Element | None:
    """Follow a path of names, each time to the first element of the name; return None if there is none."""
    for wanted in path:
        element = None if element is None else next(every(element, wanted), None)
    return element


def text(element: Element | None, *path: str) -> str:
    """Return the text of the element that `first` finds, stripped; empty where there is none."""
    found = first(element, *path)
    return ((found.text if found is not None else None) or "").strip()


GROUP, PORT = "239.255.255.250", 3702
MOST_NAME = 80

_PROBE = """<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"
 xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"
 xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"
 xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><s:Header>
<a:MessageID>{message_id}</a:MessageID>
<a:To s:mustUnderstand="1">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>
<a:Action s:mustUnderstand="1">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>
</s:Header><s:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></s:Body></s:Envelope>"""
_SCOPE = re.compile(r"onvif://www\.onvif\.org/(name|hardware)/(.+)", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")


@dataclass(frozen=True, slots=True)
class OnvifDevice:
    """A camera that has answered.

    Attributes:
        address: the URL of its device service.
        name: its own name; may be empty.
    """

    address: str
    name: str

    @property
    def host(self) -> str:
        """The host in its address."""
        return urlsplit(self.address).hostname or ""


def probe(message_id: str) -> bytes:
    """Return a WS-Discovery Probe; answers refer to it by `message_id`, `urn:uuid:...`."""
    return _PROBE.format(message_id=message_id).encode()


def devices(data: bytes, sender: str, message_id: str) -> tuple[OnvifDevice, ...]:
    """Return the cameras that an answer names.

    Any host on the network may answer, and name any address. Only an address of the sender itself is taken,
    so that no answer makes this machine send requests to a third host.

    Args:
        data: the datagram.
        sender: its IP address.
        message_id: of the Probe; answers to others are ignored.
    """
    try:
        envelope = parse(data)
    except NotXml:
        return ()
    if text(envelope, "Header", "RelatesTo") not in ("", message_id):
        return ()
    found = []
    for match in every(envelope, "ProbeMatch"):
        addresses = text(match, "XAddrs").split()
        own = next((each for each in addresses if _is_at(each, sender)), None)
        if own is not None:
            found.append(OnvifDevice(own, _name(text(match, "Scopes").split())))
    return tuple(found)


def named(host: str) -> OnvifDevice:
    """Return the camera at a host, with the path that device services usually have."""
    return OnvifDevice(f"http://{host}/onvif/device_service", "")


def _is_at(address: str, host: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.hostname == host and port != 0


def _name(scopes: list[str]) -> str:
    found = {match[1].lower(): match[2] for scope in scopes if (match := _SCOPE.fullmatch(scope))}
    words = [found[each] for each in ("name", "hardware") if each in found]
    return shown(" ".join(unquote(word) for word in dict.fromkeys(words)))


def shown(words: str) -> str:
    """Return a camera's text without control characters, and not longer than `MOST_NAME`."""
    return _UNPRINTABLE.sub(" ", words).strip()[:MOST_NAME]
