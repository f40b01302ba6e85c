"""A program that plays an ONVIF camera: WS-Discovery, the device service and a media service.

Its answers are such as zeep reads by the published schemas (`python -m tests.onvif_camera` runs one).
"""

import base64
import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

from services.capture.onvif.discovery import GROUP

SOAP = "http://www.w3.org/2003/05/soap-envelope"
DEVICE = "http://www.onvif.org/ver10/device/wsdl"
MEDIA = "http://www.onvif.org/ver10/media/wsdl"
MEDIA2 = "http://www.onvif.org/ver20/media/wsdl"
SCHEMA = "http://www.onvif.org/ver10/schema"

_FAULT = """<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:{code}</s:Value></s:Subcode>
</s:Code><s:Reason><s:Text xml:lang="en">Sender not authorized</s:Text></s:Reason></s:Fault>"""
_TIME = """<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>
<tt:DaylightSavings>false</tt:DaylightSavings><tt:UTCDateTime><tt:Time><tt:Hour>{0.hour}</tt:Hour>
<tt:Minute>{0.minute}</tt:Minute><tt:Second>{0.second}</tt:Second></tt:Time><tt:Date><tt:Year>{0.year}</tt:Year>
<tt:Month>{0.month}</tt:Month><tt:Day>{0.day}</tt:Day></tt:Date></tt:UTCDateTime></tds:SystemDateAndTime>
</tds:GetSystemDateAndTimeResponse>"""
_SERVICE = """<tds:Service><tds:Namespace>{}</tds:Namespace><tds:XAddr>{}</tds:XAddr><tds:Version>
<tt:Major>2</tt:Major><tt:Minor>60</tt:Minor></tds:Version></tds:Service>"""
_CAPABILITIES = """<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>{}</tt:XAddr>
<tt:StreamingCapabilities><tt:RTPMulticast>false</tt:RTPMulticast><tt:RTP_TCP>true</tt:RTP_TCP>
<tt:RTP_RTSP_TCP>true</tt:RTP_RTSP_TCP></tt:StreamingCapabilities></tt:Media></tds:Capabilities>
</tds:GetCapabilitiesResponse>"""
_MULTICAST = """<tt:Multicast><tt:Address><tt:Type>IPv4</tt:Type>
<tt:IPv4Address>0.0.0.0</tt:IPv4Address></tt:Address>
<tt:Port>0</tt:Port><tt:TTL>1</tt:TTL><tt:AutoStart>false</tt:AutoStart></tt:Multicast>"""
_PROFILES = f"""<trt:GetProfilesResponse>
<trt:Profiles token="main" fixed="true"><tt:Name>mainStream</tt:Name>
<tt:VideoEncoderConfiguration token="v1"><tt:Name>v1</tt:Name><tt:UseCount>1</tt:UseCount>
<tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>1920</tt:Width><tt:Height>1080</tt:Height></tt:Resolution>
<tt:Quality>4</tt:Quality><tt:RateControl><tt:FrameRateLimit>25</tt:FrameRateLimit>
<tt:EncodingInterval>1</tt:EncodingInterval><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl>
<tt:H264><tt:GovLength>50</tt:GovLength><tt:H264Profile>Main</tt:H264Profile></tt:H264>
{_MULTICAST}<tt:SessionTimeout>PT60S</tt:SessionTimeout></tt:VideoEncoderConfiguration></trt:Profiles>
<trt:Profiles token="sub"><tt:Name>subStream</tt:Name>
<tt:VideoEncoderConfiguration token="v2"><tt:Name>v2</tt:Name><tt:UseCount>1</tt:UseCount>
<tt:Encoding>JPEG</tt:Encoding><tt:Resolution><tt:Width>640</tt:Width><tt:Height>360</tt:Height></tt:Resolution>
<tt:Quality>4</tt:Quality>{_MULTICAST}<tt:SessionTimeout>PT60S</tt:SessionTimeout>
</tt:VideoEncoderConfiguration></trt:Profiles>
<trt:Profiles token="audio"><tt:Name>only sound</tt:Name></trt:Profiles></trt:GetProfilesResponse>"""
_PROFILES2 = """<tr2:GetProfilesResponse>
<tr2:Profiles token="main" fixed="true"><tr2:Name>mainStream</tr2:Name>
<tr2:Configurations><tr2:VideoEncoder token="v1" GovLength="50" Profile="Main"><tt:Name>v1</tt:Name>
<tt:UseCount>1</tt:UseCount><tt:Encoding>H265</tt:Encoding><tt:Resolution><tt:Width>2560</tt:Width>
<tt:Height>1440</tt:Height></tt:Resolution><tt:RateControl ConstantBitRate="false">
<tt:FrameRateLimit>20</tt:FrameRateLimit><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl>
<tt:Quality>4</tt:Quality></tr2:VideoEncoder></tr2:Configurations></tr2:Profiles></tr2:GetProfilesResponse>"""
_URI = """<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{}</tt:Uri><tt:InvalidAfterConnect>false
</tt:InvalidAfterConnect><tt:InvalidAfterReboot>false</tt:InvalidAfterReboot><tt:Timeout>PT60S</tt:Timeout>
</trt:MediaUri></trt:GetStreamUriResponse>"""
_URI2 = "<tr2:GetStreamUriResponse><tr2:Uri>{}</tr2:Uri></tr2:GetStreamUriResponse>"
_MATCHES = """<d:ProbeMatches><d:ProbeMatch><a:EndpointReference><a:Address>urn:uuid:{host}</a:Address>
</a:EndpointReference><d:Types>dn:NetworkVideoTransmitter tds:Device</d:Types><d:Scopes>
onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/{name}
onvif://www.onvif.org/hardware/TEST-1 onvif://www.onvif.org/Profile/Streaming</d:Scopes>
<d:XAddrs>http://192.0.2.99/onvif/device_service {xaddr}</d:XAddrs><d:MetadataVersion>1</d:MetadataVersion>
</d:ProbeMatch></d:ProbeMatches>"""


@dataclass
class OnvifCamera:
    """What it is like, and what it has seen.

    Attributes:
        host: its address on loopback.
        user, password: whom it answers; anybody if empty.
        wants_http: whether it asks for the login by HTTP (digest) and takes none in the message.
        challenge: how it asks then.
        has_services: whether it knows `GetServices`.
        has_media2: whether it has the newer media service.
        slow_by: by how much its clock is behind.
        name: what it calls itself, percent-encoded.
        uri: its addresses, with `{}` for the profile.
        says: in the place of all its answers.
        questions: what it was asked, in which
        requests, and who asked with which
        authorizations.
        port: where it answers.
    """

    host: str = "127.0.0.1"
    user: str = ""
    password: str = ""
    wants_http: bool = False
    challenge: str = 'Digest realm="cam", nonce="n1", qop="auth"'
    has_services: bool = True
    has_media2: bool = False
    slow_by: timedelta = timedelta()
    name: str = "Front%20door"
    uri: str = "rtsp://{host}:554/{profile}"
    says: bytes | None = None
    questions: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}/onvif/device_service"

    @property
    def media(self) -> str:
        # As behind a router: an address that leads nowhere from here.
        return f"http://203.0.113.7:{self.port}/onvif/media"

    def answer(self, data: bytes, authorization: str) -> tuple[int, dict[str, str], bytes]:
        """Return the status, headers and body of the answer to a request."""
        self.requests.append(data)
        self.authorizations.append(authorization)
        if self.says is not None:
            return 200, {}, self.says
        question = re.search(rb"Body[^>]*>\s*<(?:\w+:)?(\w+)", data)
        assert question is not None, data
        self.questions.append(question[1].decode())
        if self.user and self.questions[-1] != "GetSystemDateAndTime":
            if self.wants_http and not self._is_digest_right(authorization):
                return 401, {"WWW-Authenticate": self.challenge}, b""
            if not self.wants_http and not self._is_token_right(data):
                return 400, {}, envelope(_FAULT.format(code="NotAuthorized"))
        if body := self._body(data):
            return 200, {}, envelope(body)
        return 500, {}, envelope(_FAULT.format(code="ActionNotSupported"))

    def _body(self, data: bytes) -> str:
        token = re.search(rb"ProfileToken>(\w+)<", data)
        uri = escape(self.uri.format(host=self.host, profile=token[1].decode() if token else ""))
        services = _SERVICE.format(DEVICE, self.address) + _SERVICE.format(MEDIA, self.media)
        services += _SERVICE.format(MEDIA2, self.media) if self.has_media2 else ""
        answers = {
            "GetSystemDateAndTime": _TIME.format(datetime.now(UTC) - self.slow_by),
            "GetServices": f"<tds:GetServicesResponse>{services}</tds:GetServicesResponse>"
            if self.has_services
            else "",
            "GetCapabilities": _CAPABILITIES.format(self.media),
            "GetProfiles": _PROFILES2 if MEDIA2.encode() in data else _PROFILES,
            "GetStreamUri": (_URI2 if MEDIA2.encode() in data else _URI).format(uri),
        }
        return answers.get(self.questions[-1], "")

    def _is_token_right(self, data: bytes) -> bool:
        found = [re.search(rb"<\w+:%s(?: [^>]*)?>([^<]*)<" % name, data) for name in
                 (b"Username", b"Password", b"Nonce", b"Created")]  # fmt: skip
        if not all(found):
            return False
        user, digest, nonce, created = (match[1] for match in found if match)
        age = datetime.now(UTC) - self.slow_by - datetime.fromisoformat(created.decode())
        right = hashlib.sha1(base64.b64decode(nonce) + created + self.password.encode()).digest()  # noqa: S324
        is_fresh = abs(age) < timedelta(seconds=30)
        return is_fresh and user == self.user.encode() and base64.b64decode(digest) == right

    def _is_digest_right(self, authorization: str) -> bool:
        given: dict[str, str] = dict(re.findall(r'(\w+)="?([^",]+)"?', authorization))
        if given.get("username") != self.user:
            return False
        first = _md5(f"{self.user}:cam:{self.password}")
        second = _md5(f"POST:{given['uri']}")
        return given.get("response", "") == _md5(f"{first}:n1:{given['nc']}:{given['cnonce']}:auth:{second}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - as the standard has it


def envelope(body: str, header: str = "") -> bytes:
    spaces = {
        "s": SOAP, "tds": DEVICE, "trt": MEDIA, "tr2": MEDIA2, "tt": SCHEMA,
        "ter": "http://www.onvif.org/ver10/error",
        "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
        "d": "http://schemas.xmlsoap.org/ws/2005/04/discovery",
        "dn": "http://www.onvif.org/ver10/network/wsdl",
    }  # fmt: skip
    declared = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in spaces.items())
    inside = f"<s:Header>{header}</s:Header><s:Body>{body}</s:Body>"
    return f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope {declared}>{inside}</s:Envelope>'.encode()


@contextlib.contextmanager
def playing(camera: OnvifCamera, group_port: int | None = None) -> Iterator[OnvifCamera]:
    """Run a camera; with a port, also its part in WS-Discovery, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = camera.answer(data, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer((camera.host, 0), Handler)
    server.daemon_threads = True
    camera.port = server.server_address[1]
    threads = [threading.Thread(target=server.serve_forever)]
    door = None
    if group_port is not None:
        door = _group(group_port)
        threads.append(threading.Thread(target=_discover, args=(camera, door)))
    for thread in threads:
        thread.start()
    try:
        yield camera
    finally:
        server.shutdown()
        server.server_close()
        if door is not None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"end", ("127.0.0.1", group_port))
        for thread in threads:
            thread.join()
        if door is not None:
            door.close()


def _group(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("", port))
    membership = struct.pack("=4s4si", socket.inet_aton(GROUP), b"", socket.if_nametoindex("lo"))
    door.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return door


def _discover(camera: OnvifCamera, door: socket.socket) -> None:
    while (received := door.recvfrom(65_535))[0] != b"end":
        data, who = received
        message = re.search(rb"MessageID>([^<]+)<", data)
        if message is None or b"NetworkVideoTransmitter" not in data:
            continue
        matches = _MATCHES.format(host=camera.host, name=camera.name, xaddr=camera.address)
        header = f"<a:RelatesTo>{message[1].decode()}</a:RelatesTo>"
        # From its own address, as a camera would.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
            answering.bind((camera.host, 0))
            answering.sendto(envelope(matches, header), who)


if __name__ == "__main__":
    with playing(OnvifCamera(user="viewer", password="secret")) as camera:  # noqa: S106
        print(camera.address, flush=True)  # noqa: T201
        threading.Event().wait()
