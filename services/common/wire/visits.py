"""Events of visits, published on the device's broker for other clients."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.common.wire import times
from services.common.wire.faces import Face, encode_face
from services.common.wire.message import Message, to_json
from services.common.wire.topics import Source, camera_topic

VISIT_TYPE = "faceferry.visit.v1"


class Stage(StrEnum):
    """What has happened to a visit."""

    BEGAN = "began"
    BETTER = "better"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class VisitEvent:
    """An event of a visit.

    Attributes:
        stage: what has happened: its first picture has come, or a better one, or it has ended.
        visit: the visit's id.
        began: the time of its first frame, UTC.
        seen: the time of its last frame, UTC.
        picture: the id of the last picture that came.
        shot: that picture's number within the visit, from 1 on.
        quality: of the best picture, 0..1.
        people: visits that are open at this camera, this one included.
    """

    stage: Stage
    visit: str
    began: datetime
    seen: datetime
    picture: str
    shot: int
    quality: float
    people: int


def encode_visit_event(source: Source, news: VisitEvent) -> Message:
    """Return the message about an event of a camera's visit."""
    body = {
        "event": news.stage.value,
        "visit": news.visit,
        "began": times.rfc3339(news.began),
        "seen": times.rfc3339(news.seen),
        "picture": news.picture,
        "shot": news.shot,
        "quality": round(news.quality, 3),
        "people": news.people,
    }
    return Message(
        topic=camera_topic(source, "visit"),
        payload=to_json(body),
        qos=1,
        content_type="application/json",
        attributes=(
            ("specversion", "1.0"),
            ("type", VISIT_TYPE),
            ("source", str(source)),
            ("id", news.visit),
            ("time", times.rfc3339(news.seen)),
        ),
    )


def encode_latest(face: Face) -> Message:
    """Return a face as its camera's latest picture: retained, so that new subscribers get it at once."""
    message = encode_face(face)
    return Message(
        topic=camera_topic(face.source, "latest"),
        payload=message.payload,
        qos=1,
        retain=True,
        content_type=message.content_type,
        attributes=message.attributes,
    )
