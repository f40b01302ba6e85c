"""Asking the network which cameras are there; blocks."""

import contextlib
import errno
import select
import socket
import struct
import time
import uuid
from collections.abc import Iterator, Sequence

from services.capture.onvif.discovery import GROUP, PORT, Device, devices, probe

WAIT_S = 2.0
"""Cameras answer within half a second, so that they do not all answer at once."""
_ASKED_AT_S = (0.0, 0.25, 0.75)
"""A datagram may be lost."""
_MOST_DATAGRAM = 65_535
MOST_DEVICES = 256
_NO_WAY = frozenset({errno.ENETUNREACH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.EPERM, errno.EINVAL})


def search(
    wait_s: float = WAIT_S, interfaces: Sequence[str] | None = None, port: int = PORT
) -> tuple[Device, ...]:
    """Return the cameras that answer, each once, by their addresses.

    Args:
        wait_s: for how long to listen.
        interfaces: the network interfaces to ask on; default: all but loopback.
        port: where cameras listen.
    """
    message_id = f"urn:uuid:{uuid.uuid4()}"
    found: dict[str, Device] = {}
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(contextlib.closing(door)) for door in _doors(interfaces)]
        begun_s = time.monotonic()
        for until_s in (*_ASKED_AT_S[1:], max(wait_s, _ASKED_AT_S[-1])):
            _ask(doors, probe(message_id), port)
            for data, sender in _answers(doors, begun_s + until_s):
                found |= {device.address: device for device in devices(data, sender, message_id)}
                if len(found) >= MOST_DEVICES:
                    break
    return tuple(sorted(found.values(), key=lambda device: device.address)[:MOST_DEVICES])


def _doors(interfaces: Sequence[str] | None) -> Iterator[socket.socket]:
    """Yield a socket for each interface: a datagram to a group goes out by one alone."""
    for number, name in socket.if_nameindex():
        if name == "lo" if interfaces is None else name not in interfaces:
            continue
        door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        door.setblocking(False)
        try:
            door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _by(number))
            door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        except OSError:  # it has no address
            door.close()
        else:
            yield door


def _by(interface: int) -> bytes:
    """Return Linux' `struct ip_mreqn` of an interface's number; ip(7)."""
    return struct.pack("=4s4si", b"", b"", interface)


def _ask(doors: Sequence[socket.socket], question: bytes, port: int) -> None:
    for door in doors:
        try:
            door.sendto(question, (GROUP, port))
        except OSError as error:
            if error.errno not in _NO_WAY:
                raise


def _answers(doors: Sequence[socket.socket], until_s: float) -> Iterator[tuple[bytes, str]]:
    """Yield datagrams and their senders until a time of the steady clock."""
    while (left_s := until_s - time.monotonic()) > 0:
        ready, _, _ = select.select(doors, [], [], left_s)
        for door in ready:
            with contextlib.suppress(OSError):  # what a router says of an earlier question
                data, sender = door.recvfrom(_MOST_DATAGRAM)
                yield data, str(sender[0])
