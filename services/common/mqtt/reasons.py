"""Why a connection to a broker ended or could not be made, in words for users."""

import logging
from typing import Any

KEEP_ALIVE_TIMEOUT, PROTOCOL_ERROR, TAKEN_OVER = 0x8D, 0x82, 0x8E
PACKET_TOO_LARGE, RATE_TOO_HIGH = 0x95, 0x96
USE_ANOTHER_SERVER, SERVER_MOVED = 0x9C, 0x9D
LACKING = {0x9A: "retain", 0x9B: "qos", 0x9E: "shared"}
"""Features that a broker lacks, by the reason code that says so; see `limits.Limits.lacks`."""
_UNSUPPORTED_VERSION = 0x84
_NOT_LET_IN = (0x86, 0x87)
_MOST_WORDS = 200


class NotABroker(ConnectionError):
    """The server that answers is not an MQTT broker."""


class SocketErrors(logging.Logger):
    """A logger that remembers the socket's last error, which paho only logs; writes nothing.

    Attributes:
        problem: that error, or None.
    """

    def __init__(self) -> None:
        super().__init__("paho", logging.CRITICAL)
        self.problem: OSError | None = None

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:  # noqa: ARG002
        """Remember an error of the socket."""
        if level >= logging.ERROR and args and isinstance(args[-1], OSError):
            self.problem = args[-1]


def why_refused(code: int, words: str, *, has_lone_password: bool) -> str:
    """Return why the broker refused the connection.

    Args:
        code: its CONNACK's reason code.
        words: what the code means, and the broker's own text.
        has_lone_password: whether it was sent a password without a user.
    """
    why = f"the broker refuses: {words}"
    if code == _UNSUPPORTED_VERSION:
        why += "; one that speaks MQTT 5 is needed"
    if code in _NOT_LET_IN and has_lone_password:
        why += "; a password was sent without a user, whom mqtt://user@host names"
    return why


def why_lost(code: int, awaited: str, problem: OSError | None, keep_alive_s: int) -> str:
    """Return why a connection ended for which the broker sent no DISCONNECT.

    Args:
        code: the reason code that paho gives it.
        awaited: the packet that was due; empty: none.
        problem: the socket's error, if there was one.
        keep_alive_s: the keep-alive, seconds.
    """
    if isinstance(problem, NotABroker):
        return str(problem)
    if code == PROTOCOL_ERROR:
        return "it does not speak MQTT 5"
    if code == KEEP_ALIVE_TIMEOUT:
        return f"nothing was heard of it for longer than the keep-alive of {keep_alive_s} s"
    why = f"closed before {awaited}" if awaited else "the connection was lost"
    # A reset adds nothing: whether it or an orderly close is seen is a matter of microseconds.
    return why if problem is None or isinstance(problem, ConnectionError) else f"{why}: {problem}"


def describe_reason(reason: object, properties: object) -> str:
    """Return what a reason code means, with the broker's own text.

    Args:
        reason: the code; its `str` is its meaning.
        properties: paho's properties of the packet that brought it, or None.
    """
    told = [getattr(properties, name, None) for name in ("ReasonString", "ServerReference")]
    return ", ".join([str(reason), *(str(text)[:_MOST_WORDS] for text in told if text)])
