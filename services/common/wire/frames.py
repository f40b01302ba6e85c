"""Frames on their way to detect, and detect's answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import Refused, is_reason
from services.common.wire import cloudevents, times
from services.common.wire.cloudevents import TRACEPARENT
from services.common.wire.message import Message, from_json, to_json, unique_attributes
from services.common.wire.outlines import Outlines
from services.common.wire.scope import WHOLE, Scope, least_face_from_wire, mask_from_wire, mask_to_wire
from services.common.wire.topics import Source, camera_topic, parse_camera_topic

FRAME_TYPE = "faceferry.frame.v1"
JPEG = "image/jpeg"
MOST_NEXT_S = 2.0
"""The longest time for which an answer can hold back a camera's frames."""
PASSING = frozenset({"custody_full", "decoder_unavailable", "mailbox_full", "too_many_cameras"})
"""Temporary reasons to drop a frame: a paced frame is sent again, and a later frame of a live camera may be
processed. With any other reason the same frame would be dropped again.
"""
_MAX_SEQUENCE_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a camera.

    Attributes:
        source: the camera.
        sequence: its number, unique within a run of capture; the answer repeats it.
        time: when it was taken, UTC.
        jpeg: the picture as the camera or capture encoded it.
        paced: whether the source waits for the answer. A paced frame never goes stale, and its answer
            comes only when forward has receipted all its faces.
        after: of a paced frame the sequence number of the one before it, because not every number is sent;
            None: of a live frame, and of a recording's first. Forward uses it to put the frames that several
            replicas of detect have seen into order.
        is_clock_synchronised: whether `time` comes from a synchronised clock, as far as the kernel knows. On
            the wire only the contrary is said: `clock` `unsynchronised`.
        scope: which part of it detect may look at, and the least size of a face.
        traceparent: its trace context, or None without one; see `tracing`.
    """

    source: Source
    sequence: int
    time: datetime
    jpeg: bytes
    paced: bool = False
    is_clock_synchronised: bool = True
    after: int | None = None
    scope: Scope = WHOLE
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a frame: the ids of its faces, or why it was dropped.

    Attributes:
        source, sequence: the frame's.
        faces: the ids of its faces.
        dropped: why it was dropped; None: it was processed.
        next_s: for how long after it no further frame of the camera is worth sending, seconds, at most
            `MOST_NEXT_S`; None: detect does not say, for instance of a recording.
        outlines: where its faces are; None: of a recording, or without faces.
    """

    source: Source
    sequence: int
    faces: tuple[str, ...] = ()
    dropped: str | None = None
    next_s: float | None = None
    outlines: Outlines | None = None


def encode_frame(frame: Frame) -> Message:
    """Return the message that carries a frame."""
    sequence = str(frame.sequence)
    attributes = [
        ("specversion", "1.0"),
        ("type", FRAME_TYPE),
        ("source", str(frame.source)),
        ("id", sequence),
        ("time", times.rfc3339(frame.time)),
    ]
    if frame.paced:
        attributes.append(("flow", "paced"))
    if frame.after is not None:
        attributes.append(("after", str(frame.after)))
    if not frame.is_clock_synchronised:
        attributes.append(cloudevents.UNSYNCHRONISED)
    if frame.scope.mask:
        attributes.append(("mask", mask_to_wire(frame.scope.mask)))
    if frame.scope.min_face_px:
        attributes.append(("minface", str(frame.scope.min_face_px)))
    if frame.traceparent is not None:
        attributes.append((TRACEPARENT, frame.traceparent))
    return Message(
        topic=camera_topic(frame.source, "frame"),
        payload=frame.jpeg,
        content_type=JPEG,
        attributes=tuple(attributes),
        response_topic=camera_topic(frame.source, "done"),
        correlation=sequence.encode(),
    )


def decode_frame(message: Message) -> Frame:
    """Parse a frame.

    The answer goes to the camera's own `done` topic whatever response topic the message has, so that no
    client can make detect publish elsewhere.

    Raises:
        Refused: the message is not a frame of the camera whose topic it came on, or its scope cannot be read.
    """
    source = parse_camera_topic(message.topic, "frame")
    attributes = unique_attributes(message)
    cloudevents.check_type(attributes, FRAME_TYPE)
    cloudevents.check_source(attributes, source)
    return Frame(
        source=source,
        sequence=_sequence(message.correlation),
        time=times.parse_rfc3339(attributes.get("time", "")),
        jpeg=message.payload,
        paced=attributes.get("flow") == "paced",
        is_clock_synchronised=cloudevents.is_time_known(attributes),
        after=_sequence(attributes["after"].encode()) if "after" in attributes else None,
        scope=_scope(attributes),
        traceparent=attributes.get(TRACEPARENT),
    )


def encode_done(done: Done) -> Message:
    """Return the message that answers a frame."""
    body: dict[str, object] = {"dropped": done.dropped} if done.dropped else {"faces": list(done.faces)}
    if done.next_s is not None:
        body["next_s"] = round(done.next_s, 3)
    if done.outlines is not None:
        body["seen"] = done.outlines.body
    return Message(
        topic=camera_topic(done.source, "done"),
        payload=to_json(body),
        content_type="application/json",
        correlation=str(done.sequence).encode(),
    )


def decode_done(message: Message) -> Done:
    """Parse an answer.

    Raises:
        Refused: `bad_topic`, `bad_correlation`, `bad_json` or `bad_boxes`.
    """
    source = parse_camera_topic(message.topic, "done")
    sequence = _sequence(message.correlation)
    match from_json(message.payload):
        case {"dropped": reason, **rest} if is_reason(reason):
            return Done(source, sequence, dropped=reason, next_s=_next_s(rest.get("next_s")))
        case {"faces": [*faces], **rest} if all(isinstance(face, str) for face in faces):
            seen = Outlines.read(rest["seen"]) if "seen" in rest else None
            return Done(source, sequence, tuple(faces), next_s=_next_s(rest.get("next_s")), outlines=seen)
    raise Refused("bad_json", "neither faces nor dropped")


def _next_s(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(min(MOST_NEXT_S, value))
    raise Refused("bad_json", "next_s is no time to wait")


def _scope(attributes: Mapping[str, str]) -> Scope:
    if "mask" not in attributes and "minface" not in attributes:
        return WHOLE
    mask = mask_from_wire(attributes["mask"]) if "mask" in attributes else ()
    return Scope(mask, least_face_from_wire(attributes.get("minface", "0")))


def _sequence(correlation: bytes | None) -> int:
    if correlation is None or not correlation.isdigit() or len(correlation) > _MAX_SEQUENCE_DIGITS:
        raise Refused("bad_correlation", "not a frame's number")
    return int(correlation)
