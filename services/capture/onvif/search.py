"""Finds the ONVIF cameras of the network, and an entry for FACEFERRY_CAMERAS for each. Blocks."""

import contextlib
import errno
import select
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.capture.onvif.client import Login, OnvifFailed, OnvifStream, streams, without_login
from services.capture.onvif.discovery import GROUP, PORT, OnvifDevice, devices, probe
from services.capture.source.devices import FoundCamera

WAIT_S = 2.0
"""How long answers are waited for, in seconds; cameras spread theirs over half a second."""
_ASKED_AT_S = (0.0, 0.25, 0.75)
"""The Probe is repeated, because a datagram may be lost."""
_MOST_DATAGRAM = 65_535
MOST_DEVICES = 256
_NO_WAY = frozenset({errno.ENETUNREACH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.EPERM, errno.EINVAL})


def search(
    wait_s: float = WAIT_S, interfaces: Sequence[str] | None = None, port: int = PORT
) -> tuple[OnvifDevice, ...]:
    """Return the cameras that answer, each once, in the order of their addresses.

    Args:
        wait_s: how long to listen, in seconds.
        interfaces: the names of the network interfaces to ask on; None: all but loopback.
        port: the UDP port on which cameras listen.
    """
    message_id = f"urn:uuid:{uuid.uuid4()}"
    found: dict[str, OnvifDevice] = {}
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(contextlib.closing(sock)) for sock in _sockets(interfaces)]
        begun_s = time.monotonic()
        for until_s in (*_ASKED_AT_S[1:], max(wait_s, _ASKED_AT_S[-1])):
            _ask(sockets, probe(message_id), port)
            for data, sender in _answers(sockets, begun_s + until_s):
                found |= {device.address: device for device in devices(data, sender, message_id)}
                if len(found) >= MOST_DEVICES:
                    break
    return tuple(sorted(found.values(), key=lambda device: device.address)[:MOST_DEVICES])


def _sockets(interfaces: Sequence[str] | None) -> Iterator[socket.socket]:
    """Yield a socket for each interface: a multicast datagram goes out by one interface only."""
    for number, name in socket.if_nameindex():
        if name == "lo" if interfaces is None else name not in interfaces:
            continue
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _by(number))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        except OSError:  # it has no address
            sock.close()
        else:
            yield sock


def _by(interface: int) -> bytes:
    """Return Linux' `struct ip_mreqn` of an interface's number; ip(7)."""
    return struct.pack("=4s4si", b"", b"", interface)


def _ask(sockets: Sequence[socket.socket], question: bytes, port: int) -> None:
    for sock in sockets:
        try:
            sock.sendto(question, (GROUP, port))
        except OSError as error:
            if error.errno not in _NO_WAY:
                raise


def _answers(sockets: Sequence[socket.socket], until_s: float) -> Iterator[tuple[bytes, str]]:
    """Yield datagrams and their senders until a time of the steady clock."""
    while (left_s := until_s - time.monotonic()) > 0:
        ready, _, _ = select.select(sockets, [], [], left_s)
        for sock in ready:
            with contextlib.suppress(OSError):  # an ICMP error about an earlier datagram
                data, sender = sock.recvfrom(_MOST_DATAGRAM)
                yield data, str(sender[0])


MOST_S = 20.0
"""How long the cameras are waited for, in seconds: one that answers a byte at a time may never finish."""

AskLogin = Callable[[OnvifDevice], Login | None]
"""Asks the user for a login of a camera; None: the camera is not asked again."""


@dataclass(slots=True)
class _Inquiry:
    """The result of asking one camera.

    Attributes:
        device: the camera.
        found: its RTSP addresses; empty where it does not tell them.
        why: it does not.
        wants_user: whether it may tell them to a user.
        login: which was used, if any.
    """

    device: OnvifDevice
    found: tuple[OnvifStream, ...] = ()
    why: str = "it takes too long to answer"
    wants_user: bool = False
    login: Login | None = None

    def make(self) -> None:
        """Ask the camera, and keep the result."""
        try:
            self.found = streams(self.device, self.login)
        except OnvifFailed as error:
            self.why, self.wants_user = str(error), error.wants_user


def network_cameras(devices: Sequence[OnvifDevice], ask_login: AskLogin) -> tuple[FoundCamera, ...]:
    """Return the streams of cameras of the network, or why a camera does not tell any.

    Each camera is asked without a user first, and only once more with one: after some wrong passwords they
    lock a user out.
    """
    inquiries = _make([_Inquiry(device) for device in devices])
    again = []
    for inquiry in inquiries:
        login = ask_login(inquiry.device) if inquiry.wants_user else None
        if login is not None:
            again.append(_Inquiry(inquiry.device, login=login))
    answered = {inquiry.device.address: inquiry for inquiry in (*inquiries, *_make(again))}
    return tuple(camera for inquiry in answered.values() for camera in _cameras(inquiry))


def _make(inquiries: list[_Inquiry]) -> list[_Inquiry]:
    """Ask all at once; those that take longer than `MOST_S` are not waited for."""
    threads = [threading.Thread(target=inquiry.make, daemon=True, name="onvif") for inquiry in inquiries]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + MOST_S
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    return inquiries


def _cameras(inquiry: _Inquiry) -> tuple[FoundCamera, ...]:
    name = inquiry.device.name or "ONVIF camera"
    if not inquiry.found:
        return (FoundCamera(inquiry.device.address, name, (), "", _problem(inquiry)),)
    return tuple(_camera(name, inquiry, without_login(stream, inquiry.login)) for stream in inquiry.found)


def _camera(name: str, inquiry: _Inquiry, stream: OnvifStream) -> FoundCamera:
    formats = () if stream.profile.format is None else (stream.profile.format,)
    parts = urlsplit(stream.url)
    login = "" if inquiry.login is None else "USER:PASSWORD@"
    line = f"front={parts._replace(netloc=f'{login}{parts.netloc}').geturl()}"
    problem = None
    if parts.hostname != inquiry.device.host:
        problem = f"that address is another host's than {inquiry.device.host}, which names it"
    return FoundCamera(stream.url, f"{name}, {stream.profile.name}".rstrip(", "), formats, line, problem)


def _problem(inquiry: _Inquiry) -> str:
    if not inquiry.wants_user:
        return inquiry.why
    if inquiry.login is None:
        return "it tells its addresses only to a user: `faceferry cameras --user NAME`"
    return f"user or password are not the camera's ({inquiry.why})"
