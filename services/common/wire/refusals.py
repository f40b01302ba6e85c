"""Answers to messages that were refused before they could be parsed, so that their sender learns the reason.

They go to the topic where an answer belongs, never to one that the message could choose. Names and
correlation data of the message are repeated as they came, valid or not.
"""

from services.common.wire.message import Message, to_json
from services.common.wire.topics import ROOT, device_topic, is_name, levels_of

_JSON = "application/json"


def refuse_frame(message: Message, reason: str) -> Message | None:
    """Return the answer to a message that is no frame, or None if its topic is not a frame's."""
    if (levels := levels_of(message.topic, "frame")) is None:
        return None
    return Message(
        topic=device_topic("/".join(levels), "done"),
        payload=to_json({"dropped": reason}),
        content_type=_JSON,
        correlation=message.correlation,
    )


def refuse_seen(message: Message, reason: str) -> Message | None:
    """Return the answer to a message that is no question, or None if its response topic is not a valid one.

    Valid are those of a detect of the same device.
    """
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
