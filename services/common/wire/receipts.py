"""Receipts: a custodian tells the one before it which faces it holds durably."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.common.errors import Refused, is_reason
from services.common.wire.faces import is_id
from services.common.wire.message import Message, from_json, to_json
from services.common.wire.topics import device_topic

MAX_IDS = 256
"""A longer list is sent as several receipts."""

FaceOutcome = tuple[str, str | None]
"""A face's id, or the text that its message gave as one; and the reason of refusal, None if it was taken."""

_MAX_PAYLOAD_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """The faces that the sender holds durably, and those that it will never take.

    Attributes:
        ids: the ids of the faces that it holds.
        refused: the reason of refusal by the id of each of the others.
        most_bytes: of `taken`: the largest image that forward's broker accepts; None: no limit.
    """

    ids: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    most_bytes: int | None = None


def encode_taken(
    device: str,
    ids: Iterable[str],
    refused: Mapping[str, str] = MappingProxyType({}),
    unnamed: Iterable[tuple[str, str]] = (),
    *,
    most_bytes: int | None = None,
) -> Message:
    """Return forward's receipt: these faces are on its disk, and those never will be.

    The arguments are those of `encode_stored`; for `most_bytes` see `Receipt`.
    """
    return _encode(device, "taken", ids, refused, unnamed, most_bytes=most_bytes)


def encode_stored(
    device: str, ids: Iterable[str], refused: Mapping[str, str], unnamed: Iterable[tuple[str, str]] = ()
) -> Message:
    """Return the store's receipt: these faces are in the bucket, and those never will be.

    Args:
        device: the device that the faces are from.
        ids: the faces that are stored.
        refused: the reason of refusal by the id of each face that never will be.
        unnamed: the same for messages without a valid id: the text that they gave as one, and the reason.
    """
    return _encode(device, "stored", ids, refused, unnamed)


def group_outcomes(answers: Iterable[FaceOutcome]) -> tuple[list[str], dict[str, str], list[tuple[str, str]]]:
    """Return the arguments of `encode_stored` for these outcomes: ids, refused and unnamed."""
    known = dict(answer for answer in answers if is_id(answer[0]))
    return (
        [face_id for face_id, reason in known.items() if reason is None],
        {face_id: reason for face_id, reason in known.items() if reason is not None},
        list(dict.fromkeys((text, why) for text, why in answers if why is not None and not is_id(text))),
    )


def decode_receipt(message: Message) -> Receipt:
    """Parse a receipt, `taken` or `stored`.

    Raises:
        Refused: `too_large` or `bad_json`.
    """
    if len(message.payload) > _MAX_PAYLOAD_BYTES:
        raise Refused("too_large", f"a receipt of {len(message.payload)} bytes")
    match from_json(message.payload):
        case {"ids": [*ids], **rest}:
            refused = rest.get("refused", {})
            limit = rest.get("most_bytes")
            most_bytes = limit if isinstance(limit, int) and limit > 0 else None
            is_limit = most_bytes == limit
            if all(map(is_id, ids)) and isinstance(refused, dict) and _is_reasons(refused) and is_limit:
                return Receipt(frozenset(ids), refused, most_bytes)
    raise Refused("bad_json", "not a receipt")


def _encode(
    device: str,
    kind: str,
    ids: Iterable[str],
    refused: Mapping[str, str],
    unnamed: Iterable[tuple[str, str]],
    *,
    most_bytes: int | None = None,
) -> Message:
    body: dict[str, object] = {"ids": list(ids), "refused": dict(refused)}
    # A field of its own: clients that do not know it can still read the rest.
    if without_id := [{"id": text, "reason": reason} for text, reason in unnamed]:
        body["unnamed"] = without_id
    if most_bytes is not None:
        body["most_bytes"] = most_bytes
    return Message(
        topic=device_topic(device, kind),
        payload=to_json(body),
        qos=1,
        content_type="application/json",
        attributes=(("specversion", "1.0"), ("type", f"faceferry.{kind}.v1")),
    )


def _is_reasons(refused: Mapping[object, object]) -> bool:
    return all(is_id(face) and is_reason(reason) for face, reason in refused.items())
