"""What the sockets of connections are asked. They may be gone (nothing), or be no more than like one."""

import asyncio
import fcntl
import select
import sys
import termios
from typing import Any


def has_come(sock: Any) -> bool:
    """Say whether there is something to read, or the end."""
    if sock is None or sock.fileno() < 0:
        return False
    ready = select.poll()
    ready.register(sock.fileno(), select.POLLIN)
    return bool(ready.poll(0))


def unsent_bytes(sock: Any) -> int:
    """Return how many of our bytes the other side has not taken yet; 0 where nobody knows."""
    if sock is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def close_at_the_second_call(paho: Any, closed: asyncio.Event) -> None:
    """Stand in for paho's closing, which comes right after its goodbye, and again when the broker closes."""

    def close() -> None:
        vars(paho).pop("_sock_close")
        paho._sock_close()
        closed.set()

    paho._sock_close = close
