"""Messages that mean no good, for every decoder and every subscriber."""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from services.common.images import structure
from services.common.wire.frames import Done, Frame, decode_done, decode_frame, encode_done, encode_frame
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt, encode_stored, encode_taken
from services.forward import receiver
from services.store import admission
from tests.storing import HOSTILE, PORCH, TIME, jpeg, with_attribute

MAX_FACE_BYTES = 8 * 1024 * 1024
_NOW = datetime(2026, 2, 1, tzinfo=UTC)
_JSON = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'{"ids": "all"}',
    b'{"ids": [1]}',
    b'{"ids": ["../../etc"], "refused": {}}',
    b'{"ids": [], "refused": {"x": "y"}}',
    b'{"ids": [], "refused": [[]]}',
    b'{"faces": [1]}',
    b'{"faces": {"a": 1}, "ids": null}',
    b'{"dropped": ["x"]}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 5_000,
    b'{"ids": [NaN]}',
    b'"\\ud800"',
    b"\xff\xfe",
)


def hostile_face(rng: random.Random) -> Message:
    """Return a message on a face topic, or on one that resembles it, that no store may take."""
    return HOSTILE[rng.choice(_FACE_KINDS)](rng)


def hostile_frame(rng: random.Random) -> Message:
    """Return a message on a frame topic that is no frame, or whose picture is none."""
    picture = rng.choice([b"", rng.randbytes(200), jpeg()[: rng.randrange(len(jpeg()))]])
    message = encode_frame(Frame(PORCH, rng.randrange(1_000), TIME, picture))
    return rng.choice(_CHANGES)(message, rng)


def hostile_done(rng: random.Random) -> Message:
    """Return a message on an answer's topic that answers nothing."""
    message = encode_done(Done(PORCH, rng.randrange(10**12), faces=("x",)))
    return dataclasses.replace(message, payload=_bad_json(rng))


def hostile_receipt(rng: random.Random, kind: str = "stored") -> Message:
    """Return a message on a receipt's topic that receipts nothing."""
    message = encode_taken(PORCH.device, []) if kind == "taken" else encode_stored(PORCH.device, [], {})
    return dataclasses.replace(message, payload=_bad_json(rng))


def is_sendable(message: Message) -> bool:
    """Say whether a broker hands a message on: it takes control characters for a malformed packet."""
    levels = message.topic.split("/")
    text = message.topic + (message.content_type or "") + "".join(map("".join, message.attributes))
    return len(levels) >= 3 and all(levels) and text.isprintable()


def sendable(make: Callable[[random.Random], Message], rng: random.Random) -> Iterator[Message]:
    """Yield such messages without end, those that a broker hands on."""
    while True:
        message = make(rng)
        if is_sendable(message):
            yield message


def _forward(message: Message) -> object:
    return receiver.admit(message, PORCH.device, _NOW)


def _store(message: Message) -> object:
    return admission.admit(message, _NOW, MAX_FACE_BYTES)


def _image(message: Message) -> object:
    return structure.inspect(message.payload)


DECODERS: dict[str, tuple[Callable[[Message], object], Callable[[random.Random], Message]]] = {
    "forward's intake": (_forward, hostile_face),
    "store's admission": (_store, hostile_face),
    "images": (_image, hostile_face),
    "receipts": (decode_receipt, hostile_receipt),
    "frames": (decode_frame, hostile_frame),
    "answers": (decode_done, hostile_done),
}
"""What reads messages, and what to feed it; each may refuse what it is fed, or take it, and nothing else."""


def _bad_json(rng: random.Random) -> bytes:
    return rng.choice([*_JSON, rng.randbytes(rng.randrange(300)), json.dumps({"ids": [0.5] * 999}).encode()])


def _repeated(message: Message, _rng: random.Random) -> Message:
    return dataclasses.replace(message, attributes=message.attributes * 2)


def _bare(message: Message, _rng: random.Random) -> Message:
    return dataclasses.replace(message, attributes=())


def _huge(message: Message, rng: random.Random) -> Message:
    more = tuple((f"x{number}", "y" * rng.randrange(1_000)) for number in range(60))
    return dataclasses.replace(message, attributes=(*message.attributes, *more))


def _uncorrelated(message: Message, rng: random.Random) -> Message:
    numbers = [None, b"", b"-1", b"9" * 300, rng.randbytes(20), "\u0664".encode(), b"1_0"]
    return dataclasses.replace(message, correlation=rng.choice(numbers))


def _timeless(message: Message, rng: random.Random) -> Message:
    return with_attribute(message, "time", rng.choice(["", "now", "2026-02-31T00:00:00.000000Z", "9" * 27]))


def _elsewhere(message: Message, rng: random.Random) -> Message:
    return with_attribute(message, "source", rng.choice(["porch/yard", "/", "../.."]))


def _as_it_is(message: Message, _rng: random.Random) -> Message:
    return message


_CHANGES = (_repeated, _bare, _huge, _uncorrelated, _timeless, _elsewhere, _as_it_is)
_FACE_KINDS = tuple(HOSTILE)
