"""Small packets that wait are sent together: to have the system send one costs more than to make it. Pure."""

from collections import deque
from typing import Any

MOST_BYTES = 16_384
"""Of what is sent at once."""
_PUBLISH, _PUBACK = 0x30, 0x40


def bundle(packets: "deque[Any]") -> None:
    """Put packets together that stand one behind the other, as far as they are small.

    Args:
        packets: those that wait, as paho keeps them; publications of QoS 1, and acknowledgements, of which
            paho wants to know no more when they are sent. One that is under way already is left.
    """
    if len(packets) < 2:
        return
    left, gathered = list(packets), None
    packets.clear()
    for packet in left:
        if gathered is not None and _is_small(packet, gathered["to_process"]):
            gathered["packet"] = bytes(gathered["packet"]) + bytes(packet["packet"])
            gathered["to_process"] += packet["to_process"]
            continue
        packets.append(packet)
        gathered = packet if _is_small(packet, 0) else None


def _is_small(packet: Any, more_bytes: int) -> bool:
    kind = packet["command"] & 0xF0
    is_plain = kind == _PUBACK or (kind == _PUBLISH and packet["qos"] > 0)
    size_bytes: int = packet["to_process"]
    return is_plain and packet["pos"] == 0 and size_bytes + more_bytes <= MOST_BYTES
