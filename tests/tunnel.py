"""Two network namespaces and a way between them that drops large packets without a word."""

import asyncio
import fcntl
import os
import secrets
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import skip

_DEVICE = Path("/dev/net/tun")
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_MOST_BYTES = 65_536
NEAR, FAR = "10.214.0.1", "10.214.0.2"
"""The addresses of the two ends, within namespaces that nobody else sees."""


@dataclass(slots=True)
class Tunnel:
    """The way; what may pass it can be changed at any time.

    Attributes:
        near: the namespace at one end, and
        far: at the other.
        most_bytes_up: the largest IP packet that passes from near to far, and
        most_bytes_down: back.
        dropped: how many were too large.
    """

    near: str
    far: str
    most_bytes_up: int = _MOST_BYTES
    most_bytes_down: int = _MOST_BYTES
    dropped: int = 0

    def command(self, namespace: str, *words: str) -> list[str]:
        """Return what runs a command in one of the namespaces."""
        return ["ip", "netns", "exec", namespace, *words]


@contextmanager
def tunnel() -> Iterator[Tunnel]:
    """Dig one, and fill it in; the event loop carries what goes through it."""
    if os.geteuid() != 0 or not _DEVICE.exists():
        skip(f"network namespaces of its own, and a tunnel between them, need root and {_DEVICE}")
    token = secrets.token_hex(3)
    made = Tunnel(f"ff-{token}-near", f"ff-{token}-far")
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        for namespace in (made.near, made.far):
            if subprocess.run(["ip", "netns", "add", namespace], check=False).returncode != 0:
                skip("no network namespaces may be made here")
            stack.callback(subprocess.run, ["ip", "netns", "del", namespace], check=True)
            _ip("-n", namespace, "link", "set", "lo", "up")
        near = _end(stack, f"ff{token}n", made.near, NEAR, FAR)
        far = _end(stack, f"ff{token}f", made.far, FAR, NEAR)

        def carry(source: int, sink: int, *, is_up: bool) -> None:
            packet = os.read(source, _MOST_BYTES)
            if len(packet) > (made.most_bytes_up if is_up else made.most_bytes_down):
                made.dropped += 1
            else:
                os.write(sink, packet)

        loop.add_reader(near, lambda: carry(near, far, is_up=True))
        loop.add_reader(far, lambda: carry(far, near, is_up=False))
        try:
            yield made
        finally:
            loop.remove_reader(near)
            loop.remove_reader(far)


def _end(stack: ExitStack, name: str, namespace: str, address: str, peer: str) -> int:
    number = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    stack.callback(os.close, number)
    fcntl.ioctl(number, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
    _ip("link", "set", name, "netns", namespace)
    _ip("-n", namespace, "addr", "add", address, "peer", peer, "dev", name)
    _ip("-n", namespace, "link", "set", name, "up", "mtu", "1500")
    return number


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
