"""The faces that detect has seen in a frame, and forward's answer: which of them to cut.

`seen` asks, `wanted` answers; detect cuts nothing before.
"""

import base64
import binascii
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.common.errors import Refused, is_reason
from services.common.wire import cloudevents, times
from services.common.wire.frames import Frame
from services.common.wire.message import Message, from_json, to_json, unique_attributes
from services.common.wire.topics import ROOT, Source, camera_topic, device_topic, is_name, parse_camera_topic

SEEN_TYPE = "faceferry.seen.v1"
SIGNATURE_SIDE = 8
SIGNATURE_BYTES = 3 * SIGNATURE_SIDE**2
MAX_FACES = 10_000
"""The most faces that detect can be set to find in a frame."""

MOST_HASTE = 16.0
"""`haste` is a factor on how often a live camera is looked at; 16 times as often is each frame."""
LEAST_HASTE = 0.25

_JSON = "application/json"
_MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
_MAX_PIXELS = 1e6
_MOST = _MAX_PIXELS * _MAX_PIXELS
_NUMBERS = (int, float)
_FACE = '"box":[%.1f,%.1f,%.1f,%.1f],"score":%.3f,"sharpness":%.1f,"signature":"%s"'
_LANDMARKS = f',"landmarks":[{",".join(["%.1f"] * 10)}]'
_VISIT = re.compile(r"[0-9A-Za-z.-]{1,64}", re.ASCII)
_CORRELATION = re.compile(rb"[0-9a-f-]{1,64}")


@dataclass(frozen=True, slots=True)
class SeenFace:
    """One face that was seen in a frame.

    Attributes:
        box: left, top, width and height in pixels of the frame; it may reach beyond the frame.
        score: the detector's, 0..1; 1 if it gives none.
        landmarks: x and y of the right eye, left eye, nose tip, right and left corner of the mouth, in pixels
            of the frame; empty if the detector gives none.
        sharpness: the variance of its Laplacian at detection scale, see `detect.codec.sharpness`.
        signature: the face scaled to 8x8 pixels in Lab: 64 bytes of lightness, 64 of a, 64 of b, row by row;
            or empty. It can tell apart two people in the same place, no more, and never leaves the host.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[float, ...]
    sharpness: float
    signature: bytes


@dataclass(frozen=True, slots=True)
class View:
    """The faces that were seen in one frame.

    Attributes:
        width, height: the frame's, pixels.
        faces: in the detector's order.
    """

    width: int
    height: int
    faces: tuple[SeenFace, ...]


NO_FACES = View(1, 1, ())
"""The view of a frame of any size in which no face was seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A question: which of the faces seen in a frame to cut.

    Attributes:
        source, sequence, time, paced, after: the frame's.
        view: the faces.
        answer_to: the topic for the answer.
        correlation: the correlation data that the answer repeats.
    """

    source: Source
    sequence: int
    time: datetime
    view: View
    answer_to: str
    correlation: bytes
    paced: bool = False
    after: int | None = None


class Why(StrEnum):
    """Why a picture is wanted. For all reasons but `BETTER` it may be the first picture of a person."""

    FIRST = "first"
    BETTER = "better"
    CHANGED = "changed"
    BACK = "back"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class WantedFace:
    """A face that is to be cut.

    Attributes:
        index: its place among the question's faces.
        visit: the visit's id.
        shot: the picture's number within the visit, from 1 on.
        quality: of the picture, 0..1.
        why: the reason.
    """

    index: int
    visit: str
    shot: int
    quality: float
    why: Why


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """Forward's answer to a question.

    Attributes:
        wanted: the faces to cut; None: all of them, because forward has not answered.
        haste: how many times as often as usual the camera should be looked at, `LEAST_HASTE` to
            `MOST_HASTE`; None: not said.
    """

    wanted: Sequence[WantedFace] | None
    haste: float | None = None


def wanted_topic(device: str, instance: str) -> str:
    """Return the topic for answers to one instance of detect of a device."""
    return device_topic(device, f"detect/{instance}/wanted")


def question_about(frame: Frame, view: View, *, answer_to: str, correlation: bytes) -> Seen:
    """Return the question about a frame."""
    return Seen(
        source=frame.source,
        sequence=frame.sequence,
        time=frame.time,
        view=view,
        answer_to=answer_to,
        correlation=correlation,
        paced=frame.paced,
        after=frame.after,
    )


def encode_seen(seen: Seen) -> Message:
    """Return the message that asks which faces are wanted."""
    attributes = [
        ("specversion", "1.0"),
        ("type", SEEN_TYPE),
        ("source", str(seen.source)),
        ("id", str(seen.sequence)),
        ("time", times.rfc3339(seen.time)),
    ]
    if seen.paced:
        attributes.append(("flow", "paced"))
    if seen.after is not None:
        attributes.append(("after", str(seen.after)))
    return Message(
        topic=camera_topic(seen.source, "seen"),
        payload=_to_json(seen.view).encode(),
        content_type=_JSON,
        attributes=tuple(attributes),
        response_topic=seen.answer_to,
        correlation=seen.correlation,
    )


def decode_seen(message: Message) -> Seen:
    """Parse a question.

    Raises:
        Refused: the message is no question about the camera whose topic it came on, or its response topic is
            not a valid one (see `wanted_topic`) of the same device.
    """
    source = parse_camera_topic(message.topic, "seen")
    attributes = unique_attributes(message)
    cloudevents.check_type(attributes, SEEN_TYPE)
    cloudevents.check_source(attributes, source)
    if message.correlation is None or not _CORRELATION.fullmatch(message.correlation):
        raise Refused("bad_correlation", "not a detect's")
    match (message.response_topic or "").split("/"):
        case [root, source.device, "detect", instance, "wanted"] if root == ROOT and is_name(instance):
            pass
        case _:
            raise Refused("bad_response_topic", (message.response_topic or "")[:200])
    after = attributes.get("after")
    return Seen(
        source,
        _number(attributes.get("id", "")),
        times.parse_rfc3339(attributes.get("time", "")),
        _view(message.payload),
        message.response_topic or "",
        message.correlation,
        paced=attributes.get("flow") == "paced",
        after=None if after is None else _number(after),
    )


def encode_wanted(seen: Seen, answer: SeenAnswer) -> Message:
    """Return the message that answers a question: cut these faces, and no others."""
    wanted = [
        {
            "face": each.index,
            "visit": each.visit,
            "shot": each.shot,
            "quality": round(each.quality, 3),
            "why": each.why.value,
        }
        for each in answer.wanted or ()
    ]
    body: dict[str, Any] = {"wanted": wanted}
    if answer.haste is not None:
        body["haste"] = round(answer.haste, 2)
    return Message(
        topic=seen.answer_to,
        payload=to_json(body),
        content_type=_JSON,
        correlation=seen.correlation,
    )


def decode_wanted(message: Message) -> SeenAnswer:
    """Parse an answer.

    Raises:
        Refused: `bad_json`, or the reason for which forward has refused the question.
    """
    match from_json(message.payload):
        case {"refused": str(reason)} if is_reason(reason):
            raise Refused(reason, "forward has refused the question")
        case {"wanted": [*each], **rest}:
            return SeenAnswer([_wanted(one) for one in each], _haste(rest.get("haste")))
    raise Refused("bad_json", "it does not say which faces are wanted")


def _haste(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(min(MOST_HASTE, max(LEAST_HASTE, value)))
    raise Refused("bad_json", "haste is not a factor")


def _wanted(body: object) -> WantedFace:
    match body:
        case {
            "face": int(index),
            "visit": str(visit),
            "shot": int(shot),
            "quality": float() | int() as rated,
            "why": str(why),
        }:
            if (
                0 <= index < MAX_FACES
                and _VISIT.fullmatch(visit)
                and 0 < shot < MAX_FACES
                and 0 <= rated <= 1
                and why in Why.__members__.values()
            ):
                return WantedFace(index, visit, shot, float(rated), Why(why))
    raise Refused("bad_json", "not a wanted face")


def _to_json(view: View) -> str:
    """Return a view as JSON. The json module takes three times as long, and this runs for each frame."""
    faces = ",".join(map(_face_json, view.faces))
    return f'{{"framesize":[{view.width},{view.height}],"faces":[{faces}]}}'


def _face_json(face: SeenFace) -> str:
    signature = base64.b64encode(face.signature).decode()
    known = _FACE % (*face.box, face.score, face.sharpness, signature)
    return f"{{{known}{_LANDMARKS % face.landmarks}}}" if face.landmarks else f"{{{known}}}"


def _view(payload: bytes) -> View:
    if len(payload) > _MAX_PAYLOAD_BYTES:
        raise Refused("too_large", f"a question of {len(payload)} bytes")
    match from_json(payload):
        case {"framesize": [int(width), int(height)], "faces": [*faces]}:
            if 0 < width < _MAX_PIXELS and 0 < height < _MAX_PIXELS and len(faces) <= MAX_FACES:
                return View(width, height, tuple(map(_seen_face, faces)))
    raise Refused("bad_json", "not the faces of a frame")


def _seen_face(body: Any) -> SeenFace:
    match body:
        case {"box": [*box], "score": score, "sharpness": sharpness, "signature": str(text), **rest}:
            landmarks: Any = rest.get("landmarks", [])
            if (
                _are_numbers(box, 4)
                and _are_numbers([score, sharpness], 2)
                and (landmarks == [] or _are_numbers(landmarks, 10))
                and box[2] > 0
                and box[3] > 0
            ):
                left, top, width, height = (float(value) for value in box)
                marks = tuple(float(value) for value in landmarks)
                return SeenFace(
                    (left, top, width, height), float(score), marks, float(sharpness), _bytes(text)
                )
    raise Refused("bad_json", "not a face in a frame")


def _are_numbers(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        # NaN fails the comparison; true and false have another type.
        and all(type(value) in _NUMBERS and -_MOST < value < _MOST for value in values)
    )


def _bytes(text: str) -> bytes:
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("bad_json", "not a signature") from error
    if len(signature) not in (0, SIGNATURE_BYTES):
        raise Refused("bad_json", f"a signature of {len(signature)} bytes")
    return signature


def _number(text: str) -> int:
    if not text.isdigit() or not text.isascii() or len(text) > 20:
        raise Refused("bad_sequence", repr(text[:40]))
    return int(text)
