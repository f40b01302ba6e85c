"""WS-Discovery as ONVIF has it (Core Specification, section 7; WS-Discovery, April 2005), and XML. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError, fromstring

MOST_BYTES = 256 * 1024


class NotXml(ValueError):
    """What came is no XML that is read."""


def parse(data: bytes) -> Element:
    """Return a document's root.

    Raises:
        NotXml: it is none, is too large, or may bring definitions of its own along.
    """
    if len(data) > MOST_BYTES:
        raise NotXml("more than a camera has to say")
    if b"\0" in data or b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise NotXml("a document type, which no SOAP message has")
    try:
        return fromstring(data)  # noqa: S314 - without a document type there are no entities
    except (ParseError, ValueError, LookupError) as error:  # an encoding may be one that nobody knows
        raise NotXml(str(error)) from error


def name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def every(element: Element, wanted: str) -> Iterator[Element]:
    """Yield all elements of a name below another."""
    return (each for each in element.iter() if name(each) == wanted)


def first(element: Element | None, *path: str) -> Element | None:
    """Return the first element of the last name below the first of the one before, and so on."""
    for wanted in path:
        element = None if element is None else next(every(element, wanted), None)
    return element


def text(element: Element | None, *path: str) -> str:
    """Return what stands in `first`, without space around it; empty where it is missing."""
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
        address: where its device service is.
        name: what it calls itself.
    """

    address: str
    name: str

    @property
    def host(self) -> str:
        """Its name or address."""
        return urlsplit(self.address).hostname or ""


def probe(message_id: str) -> bytes:
    """Return the question who is there; answers name it by `message_id`, `urn:uuid:...`."""
    return _PROBE.format(message_id=message_id).encode()


def devices(data: bytes, sender: str, message_id: str) -> tuple[OnvifDevice, ...]:
    """Return the cameras that an answer tells of.

    Anybody on the network may answer, and name any address. Only what stands at the sender's own is believed:
    no answer is to have us ask somebody else.

    Args:
        data: the datagram.
        sender: whose it is, an IP address.
        message_id: of the question; other answers are none of ours.
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
    """Return the camera at an address, where they usually have their device service."""
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
    """Return what a camera says of itself as any terminal can show it."""
    return _UNPRINTABLE.sub(" ", words).strip()[:MOST_NAME]
