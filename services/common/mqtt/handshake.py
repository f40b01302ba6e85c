"""CONNECT and CONNACK as bytes, and the first bytes of an answer. MQTT 5.0, sections 2.1, 3.1 and 3.2."""

from services.common.mqtt.packets import CONNACK, DISCONNECT, varint

_TLS_RECORDS = (0x15, 0x16)
_PASSWORD_FLAG = 0x40
_MAXIMUM_PACKET_SIZE, _USER = 0x27, 0x26
_NUMBERS = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
_FLAGS_AT = 7  # after the protocol's name and version


def add_password(connect: bytes | bytearray, password: str) -> bytes:
    """Return a CONNECT packet with a password appended.

    paho sends a password only together with a user; MQTT 5 allows it alone (3.1.2.9).

    Args:
        connect: the whole packet, without a password; not modified.
        password: at most 65,535 bytes as UTF-8.
    """
    start = next(at for at in range(1, len(connect)) if connect[at] < 0x80) + 1
    secret = password.encode()
    body = bytearray(connect[start:]) + len(secret).to_bytes(2) + secret
    body[_FLAGS_AT] |= _PASSWORD_FLAG
    return bytes(connect[:1]) + varint(len(body)) + bytes(body)


def why_unusable(connack: bytes | bytearray) -> str | None:
    """Return what is wrong with a CONNACK's packet limit, or None. Other defects are left to paho.

    paho takes a CONNACK with such a limit for something that is not MQTT.

    Args:
        connack: the packet without its header and length.
    """
    at, end = 3, min(3 + connack[2], len(connack)) if len(connack) > 2 else 0
    while at < end:
        kind = connack[at]
        if kind == _MAXIMUM_PACKET_SIZE and not any(connack[at + 1 : at + 5]):
            return "the broker says that it takes packets of at most 0 bytes, which none may"
        at += 1 + _length_of(kind, connack, at + 1)
    return None


def _length_of(kind: int, packet: bytes | bytearray, at: int) -> int:
    """Return the size of a property's value, bytes (MQTT 5.0, section 2.2.2.2)."""
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    first = 2 + int.from_bytes(packet[at : at + 2])
    return first + (2 + int.from_bytes(packet[at + first : at + first + 2]) if kind == _USER else 0)


def why_not_a_broker(first: bytes) -> str | None:
    """Return what is wrong with the first bytes of an answer, or None if a broker can have sent them.

    Args:
        first: at least one byte; more of them are shown in the message.
    """
    if first[0] in (CONNACK, DISCONNECT):
        return None
    if first[0] in _TLS_RECORDS and first[1:2] == b"\x03":
        return "it answers in TLS: mqtts:// is wanted"
    return f"it does not speak MQTT: it answers {first!r}"
