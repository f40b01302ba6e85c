"""Receipts: the next custodian says which faces it has safe."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.common.errors import Refused, is_reason
from services.common.wire.faces import is_id
from services.common.wire.message import Message, from_json, to_json
from services.common.wire.topics import device_topic

MAX_IDS = 256
"""A longer list is sent as several receipts."""

Outcome = tuple[str, str | None]
"""A face's id, or what its message said was one, and the reason for which it was refused, if it was."""

_MAX_PAYLOAD_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """Ids that the sender has safe, and those that it will never take, with the reason.

    Attributes:
        ids: of those that are safe.
        refused: the reason for which each of the others is not taken.
        most_bytes: of `taken`: the largest image that forward's broker takes; nothing where any may go.
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

    See `encode_stored`, and of `most_bytes` see `Receipt`.
    """
    return _encode(device, "taken", ids, refused, unnamed, most_bytes=most_bytes)


def encode_stored(
    device: str, ids: Iterable[str], refused: Mapping[str, str], unnamed: Iterable[tuple[str, str]] = ()
) -> Message:
    """Return the store's receipt: these faces are in the bucket, and those never will be.

    Args:
        device: whose they are.
        ids: the faces that are stored.
        refused: those that never will be, and why.
        unnamed: what their messages said was their id, and is none, and why.
    """
    return _encode(device, "stored", ids, refused, unnamed)


def group_outcomes(answers: Iterable[Outcome]) -> tuple[list[str], dict[str, str], list[tuple[str, str]]]:
    """Return the ids that were taken, those refused with the reasons, and what was refused without an id."""
    known = dict(answer for answer in answers if is_id(answer[0]))
    return (
        [face_id for face_id, reason in known.items() if reason is None],
        {face_id: reason for face_id, reason in known.items() if reason is not None},
        list(dict.fromkeys((text, why) for text, why in answers if why is not None and not is_id(text))),
    )


def decode_receipt(message: Message) -> Receipt:
    """Read a receipt of either kind.

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
    # Beside the others: who knows nothing of it reads the rest all the same.
    if nobody := [{"id": text, "reason": reason} for text, reason in unnamed]:
        body["unnamed"] = nobody
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
