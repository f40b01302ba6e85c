"""Requests to ONVIF cameras and their responses (Device, Media and Media 2 services). Pure."""

import hashlib
import math
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from services.capture.onvif.discovery import every, first, shown, text
from services.capture.options import MAX_SIDE_PX, Size
from services.capture.source.v4l2 import Format

MOST_PROFILES = 16
MOST_URI = 1024
MEDIA = "http://www.onvif.org/ver10/media/wsdl"
MEDIA2 = "http://www.onvif.org/ver20/media/wsdl"
DEVICE = "http://www.onvif.org/ver10/device/wsdl"
TIME = "<GetSystemDateAndTime/>"
SERVICES = "<GetServices><IncludeCapability>false</IncludeCapability></GetServices>"
CAPABILITIES = "<GetCapabilities><Category>Media</Category></GetCapabilities>"
PROFILES = {
    MEDIA: "<GetProfiles/>",
    MEDIA2: "<GetProfiles><Type>VideoEncoder</Type></GetProfiles>",
}

_CODECS = {"JPEG": "mjpeg", "H264": "h264", "H265": "hevc", "MPV4-ES": "mpeg4", "MPEG4": "mpeg4"}
_SECURITY = (
    '<w:Security xmlns:w="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd" '
    'xmlns:u="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd" '
    's:mustUnderstand="1"><w:UsernameToken><w:Username>{user}</w:Username><w:Password Type="http://docs.'
    'oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest">{digest}'
    '</w:Password><w:Nonce EncodingType="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-'
    'security-1.0#Base64Binary">{nonce}</w:Nonce><u:Created>{created}</u:Created></w:UsernameToken>'
    "</w:Security>"
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A media profile: one way in which a camera sends pictures.

    Attributes:
        token: its identifier in requests.
        name: its name; may be empty.
        format: of its pictures; None where the camera does not tell.
    """

    token: str
    name: str
    format: Format | None


def token(user: str, password: str, nonce: bytes, created: datetime) -> str:
    """Return the header that authenticates a request with a digest of the password.

    Web Services Security, UsernameToken Profile 1.0.

    Args:
        user: the user's name.
        password: the user's password, which is not in the header.
        nonce: random bytes, never used before.
        created: now, by the camera's clock: most refuse a request that is older than some minutes.
    """
    time = f"{created:%Y-%m-%dT%H:%M:%S}Z"
    digest = hashlib.sha1(nonce + time.encode() + password.encode()).digest()  # noqa: S324 - as the standard has it
    return _SECURITY.format(
        user=escape(user), digest=b64encode(digest).decode(), nonce=b64encode(nonce).decode(), created=time
    )


def envelope(namespace: str, body: str, security: str = "") -> bytes:
    """Return a SOAP 1.2 message.

    Args:
        namespace: of the elements in the body.
        body: XML.
        security: see `token`; empty: none.
    """
    header = f"<s:Header>{security}</s:Header>" if security else ""
    parts = f'{header}<s:Body xmlns="{namespace}">{body}</s:Body>'
    soap = "http://www.w3.org/2003/05/soap-envelope"
    return f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{soap}">{parts}</s:Envelope>'.encode()


def stream_uri(namespace: str, profile: str) -> str:
    """Return the body of a request for the RTSP address of a profile, given by its token."""
    token = escape(profile)
    if namespace == MEDIA2:
        return f"<GetStreamUri><Protocol>RTSP</Protocol><ProfileToken>{token}</ProfileToken></GetStreamUri>"
    schema = 'xmlns="http://www.onvif.org/ver10/schema"'
    setup = (
        f"<StreamSetup><Stream {schema}>RTP-Unicast</Stream>"
        f"<Transport {schema}><Protocol>RTSP</Protocol></Transport></StreamSetup>"
    )
    return f"<GetStreamUri>{setup}<ProfileToken>{token}</ProfileToken></GetStreamUri>"


def camera_time(answer: Element) -> datetime | None:
    """Return the time by the camera's clock, UTC; None where it does not tell."""
    found = first(answer, "UTCDateTime")
    fields = (("Date", "Year"), ("Date", "Month"), ("Date", "Day"), ("Time", "Hour"), ("Time", "Minute"))
    try:
        year, month, day, hour, minute, second = (
            int(text(found, *each)) for each in (*fields, ("Time", "Second"))
        )
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None


def media_service(answer: Element) -> tuple[str, str] | None:
    """Return the namespace and the address of the newest media service, or None.

    Args:
        answer: the response to `SERVICES` or `CAPABILITIES`.
    """
    services = {text(each, "Namespace"): text(each, "XAddr") for each in every(answer, "Service")}
    capability = text(answer, "Media", "XAddr")
    found = services.get(MEDIA2), services.get(MEDIA) or capability
    return next(((space, each) for space, each in zip((MEDIA2, MEDIA), found, strict=True) if each), None)


def profiles(answer: Element) -> tuple[Profile, ...]:
    """Return the profiles that send pictures, `MOST_PROFILES` at most."""
    found = []
    for each in every(answer, "Profiles"):
        encoder = first(each, "VideoEncoderConfiguration")
        encoder = first(each, "Configurations", "VideoEncoder") if encoder is None else encoder
        if encoder is not None and each.get("token"):
            found.append(Profile(each.get("token", ""), shown(text(each, "Name")), _format(encoder)))
    return tuple(found[:MOST_PROFILES])


def address(answer: Element) -> str | None:
    """Return the RTSP address in the response to `stream_uri`, or None if there is none that can be used."""
    uri = text(answer, "Uri")
    is_usable = uri.startswith(("rtsp://", "rtsps://")) and uri.isprintable() and " " not in uri
    try:
        has_host = is_usable and bool(urlsplit(uri).hostname) and urlsplit(uri).port != 0
    except ValueError:
        return None
    return uri if has_host and len(uri) <= MOST_URI else None


def fault(answer: Element) -> str | None:
    """Return the reason in a SOAP fault, its subcodes first, or None if the response is no fault."""
    found = first(answer, "Fault")
    if found is None:
        return None
    codes = [text(each, "Value").rpartition(":")[2] for each in every(found, "Subcode")]
    return shown(" ".join([*dict.fromkeys(codes), text(found, "Reason", "Text")])) or "a fault"


def wants_user(why: str) -> bool:
    """Say whether a fault means that the request needs a user, or one with more rights."""
    return any(code in why for code in ("NotAuthorized", "FailedAuthentication", "FailedCheck"))


def _format(encoder: Element) -> Format | None:
    encoding = text(encoder, "Encoding").upper()
    try:
        size = Size(int(text(encoder, "Resolution", "Width")), int(text(encoder, "Resolution", "Height")))
        fps = float(text(encoder, "FrameRateLimit") or "nan")
    except ValueError:
        return None
    if not (0 < size.width <= MAX_SIDE_PX and 0 < size.height <= MAX_SIDE_PX):
        return None
    return Format(
        _CODECS.get(encoding, shown(encoding).lower()), size, fps if math.isfinite(fps) and fps > 0 else None
    )
