"""Answers to what was refused before it could be read, so that whoever sent it hears why.

They go to where an answer would have gone, and nowhere that a message could choose. What it said comes back
as it came: names need not be proper ones, nor numbers numbers.
"""

from services.common.wire.message import Message, to_json
from services.common.wire.topics import ROOT, device_topic, is_name, levels_of

_JSON = "application/json"


def refuse_frame(message: Message, reason: str) -> Message | None:
    """Return what tells a camera that its frame is none, or None where nobody listens."""
    if (levels := levels_of(message.topic, "frame")) is None:
        return None
    return Message(
        topic=device_topic("/".join(levels), "done"),
        payload=to_json({"dropped": reason}),
        content_type=_JSON,
        correlation=message.correlation,
    )


def refuse_seen(message: Message, reason: str) -> Message | None:
    """Return what tells a detect that its question is none, or None where it is not of the same device."""
    levels = levels_of(message.topic, "seen")
    match (message.response_topic or "").split("/"):
        case [root, device, "detect", instance, "wanted"] if (
            levels is not None and root == ROOT and device == levels[0] and is_name(instance)
        ):
            return Message(
                topic=device_topic(device, f"detect/{instance}/wanted"),
                payload=to_json({"refused": reason}),
                content_type=_JSON,
                correlation=message.correlation,
            )
    return None
