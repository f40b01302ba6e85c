"""Why a connection to a broker ended, or did not come to be, in words for people."""

import logging
from typing import Any

KEEP_ALIVE_TIMEOUT, PROTOCOL_ERROR, TAKEN_OVER = 0x8D, 0x82, 0x8E
PACKET_TOO_LARGE, RATE_TOO_HIGH = 0x95, 0x96
USE_ANOTHER_SERVER, SERVER_MOVED = 0x9C, 0x9D
LACKING = {0x9A: "retain", 0x9B: "qos", 0x9E: "shared"}
"""What a broker does not offer, by the reason with which it refuses it; see `limits.Limits.lacks`."""
_UNSUPPORTED_VERSION = 0x84
_NOT_LET_IN = (0x86, 0x87)
_MOST_WORDS = 200


class NotABroker(ConnectionError):
    """What answers is no MQTT broker."""


class SocketErrors(logging.Logger):
    """Hears what went wrong with the socket, which paho tells to its log alone."""

    def __init__(self) -> None:
        super().__init__("paho", logging.CRITICAL)
        self.problem: OSError | None = None

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:  # noqa: ARG002
        """Remember an error of the socket; nothing is written anywhere."""
        if level >= logging.ERROR and args and isinstance(args[-1], OSError):
            self.problem = args[-1]


def why_refused(code: int, words: str, *, has_lone_password: bool) -> str:
    """Return why the broker did not let us in.

    Args:
        code: of its CONNACK.
        words: what the code means, and what the broker says beside it.
        has_lone_password: whether it was sent a password and no user.
    """
    why = f"the broker refuses: {words}"
    if code == _UNSUPPORTED_VERSION:
        why += "; one that speaks MQTT 5 is needed"
    if code in _NOT_LET_IN and has_lone_password:
        why += "; a password was sent without a user, whom mqtt://user@host names"
    return why


def why_lost(code: int, awaited: str, problem: OSError | None, keep_alive_s: int) -> str:
    """Return why a connection is over that the broker did not say goodbye to.

    Args:
        code: paho's own word for it, one of DISCONNECT's.
        awaited: the packet that was due; empty if none was.
        problem: what went wrong with the socket, if anything did.
        keep_alive_s: after how long a silence it is given up.
    """
    if isinstance(problem, NotABroker):
        return str(problem)
    if code == PROTOCOL_ERROR:
        return "it does not speak MQTT 5"
    if code == KEEP_ALIVE_TIMEOUT:
        return f"nothing was heard of it for longer than the keep-alive of {keep_alive_s} s"
    why = f"closed before {awaited}" if awaited else "the connection was lost"
    # A reset is no more than that: which of the two is seen is a matter of microseconds.
    return why if problem is None or isinstance(problem, ConnectionError) else f"{why}: {problem}"


def describe_reason(reason: object, properties: object) -> str:
    """Return what a reason code means, with what the broker says beside it.

    Args:
        reason: whose text is its meaning.
        properties: of the packet that brought it, as attributes; nothing for none.
    """
    told = [getattr(properties, name, None) for name in ("ReasonString", "ServerReference")]
    return ", ".join([str(reason), *(str(text)[:_MOST_WORDS] for text in told if text)])
