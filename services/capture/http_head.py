"""The heads of HTTP's questions and answers, as far as a door has to change them; RFC 9112."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

_OF_ONE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a proxy.

    Attributes:
        target: what for, a whole address.
        head: what to ask the server itself.
    """

    target: SplitResult
    head: bytes


def parse_question(head: bytes) -> Question:
    """Read what a proxy is asked, its empty line included.

    Raises:
        ValueError: that is no question to a proxy.
    """
    first, *fields = head.split(b"\r\n")
    method, address, version = first.split(b" ")
    target = urlsplit(address.decode())
    if method != b"GET" or target.scheme != "http" or not target.hostname:
        raise ValueError(first)
    path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}".encode()
    return Question(target, _joined(b"%b %b %b" % (method, path, version), fields))


def place_of(target: SplitResult) -> tuple[str, int]:
    """Return the host and the port of an address.

    Raises:
        ValueError: there is no such port.
    """
    return target.hostname or "", target.port or (443 if target.scheme == "https" else 80)


def change_answer(head: bytes, change_location: Callable[[str], str]) -> bytes:
    """Return the head of an answer for a connection that ends with it.

    Args:
        head: its empty line included.
        change_location: where a redirection leads, in place of where it says.
    """
    first, *fields = head.split(b"\r\n")
    changed = [_relocated(field, change_location) for field in fields]
    return _joined(first, changed)


def _relocated(field: bytes, change_location: Callable[[str], str]) -> bytes:
    name, _, value = field.partition(b":")
    if name.strip().lower() != b"location":
        return field
    return b"Location: " + change_location(value.strip().decode(errors="replace")).encode()


def _joined(first: bytes, fields: list[bytes]) -> bytes:
    kept = [field for field in fields if field and _name(field) not in _OF_ONE_CONNECTION]
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()
