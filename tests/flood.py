"""A device that floods a broker: it publishes as fast as it can, whatever is answered.

    python -m tests.flood PORT DEVICE [--connections 1] [--qos 1] [--bytes 20000] [--kind faces]

It runs until it is killed, and says on its standard output, twice a second, how many messages it has sent.
"""

import argparse
import itertools
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Sequence

from services.common.mqtt.packets import to_properties, varint
from services.common.wire.faces import Face, encode_face, mint
from services.common.wire.message import Message
from tests.custody.faces import known_face, renamed

KINDS = ("faces", "garbage", "bare")
"""Valid faces; what is refused, each with an answer; images without properties on `test_topic`."""
TELL_EVERY_S = 0.5
CHUNK_BYTES = 1 << 16


def messages(kind: str, device: str, size_bytes: int, count: int, qos: int) -> Iterator[Message]:
    """Yield what a flood repeats for ever."""
    for number in range(count):
        face = renamed(known_face(f"flood {device}", number, size_bytes), device)
        if kind == "bare":
            yield Message(topic="test_topic", payload=face.image, qos=qos)
            continue
        message = encode_face(_spoilt(face) if kind == "garbage" else face)
        yield Message(
            topic=message.topic,
            payload=message.payload,
            qos=qos,
            content_type=message.content_type,
            attributes=message.attributes,
        )


def packet(message: Message, packet_id: int) -> bytes:
    """Return a PUBLISH packet (MQTT 5.0, section 3.3)."""
    topic = message.topic.encode()
    properties: bytes = to_properties(message).pack()
    identifier = packet_id.to_bytes(2) if message.qos else b""
    body = len(topic).to_bytes(2) + topic + identifier + properties + message.payload
    return bytes((0x30 | message.qos << 1,)) + varint(len(body)) + body


def connect(port: int, client_id: str) -> socket.socket:
    """Return a connection to a broker that has let us in."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + len(name).to_bytes(2) + name
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"\x10" + varint(len(body)) + body)
    connection.recv(CHUNK_BYTES)
    connection.setblocking(False)
    return connection


def flood(connections: Sequence[socket.socket], packets: Sequence[bytes]) -> Iterator[int]:
    """Send packets for ever on all connections; yield how many were sent each time that some were.

    What comes back is read and forgotten: else the broker would hold its acknowledgements, and stop to read.
    """
    selector = selectors.DefaultSelector()
    endless = {each: itertools.cycle(packets) for each in connections}
    unsent = dict.fromkeys(connections, memoryview(b""))
    for each in connections:
        selector.register(each, selectors.EVENT_READ | selectors.EVENT_WRITE, each)
    while True:
        sent = 0
        for key, events in selector.select():
            each = key.data
            if events & selectors.EVENT_READ and not each.recv(CHUNK_BYTES):
                raise ConnectionError("the broker has closed the connection")
            if events & selectors.EVENT_WRITE:
                if not unsent[each]:
                    some = list(itertools.islice(endless[each], max(1, CHUNK_BYTES // len(packets[0]))))
                    sent += len(some)
                    unsent[each] = memoryview(b"".join(some))
                unsent[each] = unsent[each][each.send(unsent[each]) :]
        yield sent


def main() -> None:
    """Flood until killed."""
    options = _options()
    made = messages(options.kind, options.device, options.bytes, options.faces, options.qos)
    packets = [packet(message, number % 65_535 + 1) for number, message in enumerate(made)]
    connections = [
        connect(options.port, f"flood-{options.device}-{number}") for number in range(options.connections)
    ]
    sent, told_s = 0, 0.0
    for count in flood(connections, packets):
        sent += count
        if time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            sys.stdout.write(f"{sent}\n")
            sys.stdout.flush()


def _spoilt(face: Face) -> Face:
    """Return a face whose image lacks its end, under a right id: it is read to the last byte and refused."""
    return mint(face.source, face.time, face.image[:-2], face.content_type, face.extensions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("device")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--bytes", type=int, default=20_000, help="of an image, about")
    parser.add_argument("--kind", choices=KINDS, default="faces")
    parser.add_argument("--faces", type=int, default=1_000, help="different ones, repeated for ever")
    return parser.parse_args()


if __name__ == "__main__":
    main()
