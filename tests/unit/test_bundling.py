from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.common.mqtt.packets import MOST_BYTES, bundle


def packet(command: int, qos: int, body: bytes, pos: int = 0) -> dict[str, Any]:
    return {
        "command": command,
        "mid": 1,
        "qos": qos,
        "pos": pos,
        "to_process": len(body) - pos,
        "packet": body,
        "info": None,
    }


def sent(packets: "deque[Any]") -> bytes:
    return b"".join(bytes(each["packet"][each["pos"] :]) for each in packets)


packets = st.builds(
    packet,
    st.sampled_from([0x30, 0x32, 0x40, 0x82, 0xC0, 0xE0]),
    st.integers(0, 1),
    st.binary(min_size=2, max_size=40),
    st.integers(0, 1),
)


@given(st.lists(packets, max_size=12))
def test_the_same_bytes_go_in_the_same_order(many: list[dict[str, Any]]) -> None:
    waiting = deque(dict(each) for each in many)
    bundle(waiting)
    assert sent(waiting) == sent(deque(many))
    assert sum(each["to_process"] for each in waiting) == len(sent(waiting))
    told = [each for each in many if each["command"] & 0xF0 not in (0x30, 0x40) or not each["qos"]]
    kept = [each["packet"] for each in waiting]
    for each in told:
        if each["command"] & 0xF0 != 0x40:
            assert each["packet"] in kept, "paho has something to do when it is sent"


def test_small_ones_go_together_and_large_ones_alone() -> None:
    small, large = packet(0x32, 1, bytes(300)), packet(0x32, 1, bytes(MOST_BYTES))
    waiting = deque([dict(small), dict(small), dict(large), dict(small), dict(small), dict(small)])
    bundle(waiting)
    assert [each["to_process"] for each in waiting] == [600, MOST_BYTES, 900]
