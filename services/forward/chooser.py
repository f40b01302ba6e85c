"""Says which of the faces that detect sees are worth cutting and carrying."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.metrics import Drops
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.sights import Answer, Seen, decode_seen, encode_wanted
from services.common.wire.topics import Source
from services.common.wire.visits import News, Stage, encode_news, latest
from services.forward import metrics
from services.forward.home_assistant.entities import HomeAssistant
from services.forward.visits.camera_visits import CameraVisits, VisitRules, rules_at_fill
from services.forward.visits.reordering import ReorderBuffer

MOST_CAMERAS = 256
"""Whose visits are known; of more the one that was seen longest ago is forgotten, and begins anew."""
TICK_S = 0.5
KEPT_ANSWERS = 64
"""Of one camera: a question that is asked again gets the same answer."""
MISSING_S = 2.0
"""A picture of a live camera that was wanted and has not come by then died with a detect."""

_Key = tuple[int, datetime]

_not_sent = Drops(metrics.DROPPED, "forward.message_dropped")


@dataclass(frozen=True, slots=True)
class _Live:
    """How late it is before a live camera: the time of its last frame, and when that was here."""

    frame_s: float
    since_s: float

    def at(self, now_s: float) -> float:
        """Return what its frames' clock shows by now."""
        return self.frame_s + now_s - self.since_s


@dataclass(slots=True)
class _Camera:
    """What is known of a camera.

    Attributes:
        visits: before it.
        order: of its questions, if it plays a recording.
        answers: the last ones, by the frame.
        live: its clock; nothing of a recording, whose visits end by its own time alone.
    """

    visits: CameraVisits = field(default_factory=CameraVisits)
    order: ReorderBuffer = field(default_factory=ReorderBuffer)
    answers: OrderedDict[_Key, Answer] = field(default_factory=OrderedDict)
    live: _Live | None = None


class Chooser:
    """Answers detect's questions from what it knows of the visits before each camera.

    It holds no pixels. If it dies, nobody is missed: what is not answered is cut, and who is there is seen
    for the first time again.

    Args:
        rules: what a visit is.
        publish: sends to the local broker.
        fill: says how full the spool is, 0..1.
        home: is told of visits and of who is there, if anybody is.
        began: is told of each visit that has begun, with its first picture, if anybody is.
        kept: is told whose picture the local broker keeps of a camera from then on: the face's id, its visit.
    """

    def __init__(
        self,
        rules: VisitRules,
        *,
        publish: Callable[[Message], None],
        fill: Callable[[], float],
        home: HomeAssistant | None = None,
        began: Callable[[Face, News], None] | None = None,
        kept: Callable[[Source, str, str | None], None],
    ) -> None:
        self._rules = rules
        self._publish = publish
        self._fill = fill
        self._home = home
        self._began = began
        self._kept = kept
        self._cameras: OrderedDict[Source, _Camera] = OrderedDict()

    def take(self, message: Message) -> None:
        """Take a question and answer what is to be answered now.

        Raises:
            Refused: it is none.
        """
        seen = decode_seen(message)
        camera = self._camera(seen.source)
        if (known := camera.answers.get((seen.sequence, seen.time))) is not None:
            self._answer(seen, known)
        elif seen.paced:
            self._choose(camera, camera.order.put(seen, time.monotonic()))
        else:
            self._choose(camera, [seen])

    async def run(self) -> None:
        """Answer what has waited too long for an earlier frame's turn, and end visits, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            for source, camera in self._cameras.items():
                self._choose(camera, camera.order.overdue(now_s))
                if camera.live is not None:
                    self._tell(source, camera.visits.end(camera.live.at(now_s), self._rules))
                self._count_people(source, camera)
            metrics.VISITS_OPEN.set(sum(len(camera.visits) for camera in self._cameras.values()))

    def face_taken(self, face: Face) -> None:
        """Note a face that is here: its visit has the picture that was wanted."""
        camera = self._cameras.get(face.source)
        if camera is None or (visit := face.extensions.get("visit")) is None:
            return
        news = camera.visits.picture_arrived(visit, face.extensions.get("shot", ""), face.id)
        if news is not None:
            self._tell(face.source, [news])
            if self._home is not None:
                self._home.picture_changed(face.source, face.content_type)
            if self._began is not None and news.stage is Stage.BEGAN:
                self._began(face, news)
            self._send(latest(face))
            self._kept(face.source, face.id, visit)

    def _camera(self, source: Source) -> _Camera:
        camera = self._cameras.pop(source, None) or _Camera()
        self._cameras[source] = camera
        if len(self._cameras) > MOST_CAMERAS:
            self._cameras.popitem(last=False)
        return camera

    def _choose(self, camera: _Camera, questions: Sequence[Seen]) -> None:
        for seen in questions:
            if seen.paced and seen.after is None:
                self._tell(seen.source, camera.visits.close())  # from its start: nobody is there yet
            rules = rules_at_fill(self._rules, self._fill())
            # A recording's own time says nothing of how long a picture has been on its way.
            wanted = camera.visits.look(seen, rules if seen.paced else replace(rules, missing_s=MISSING_S))
            camera.live = None if seen.paced else _Live(seen.time.timestamp(), time.monotonic())
            self._tell(seen.source, camera.visits.ended())
            self._count_people(seen.source, camera)
            metrics.SIGHTS.inc(len(seen.view.sights))
            for each in wanted:
                metrics.WANTED.labels(each.why).inc()
            answer = Answer(wanted, None if seen.paced else camera.visits.look_rate(seen))
            camera.answers[seen.sequence, seen.time] = answer
            if len(camera.answers) > KEPT_ANSWERS:
                camera.answers.popitem(last=False)
            self._answer(seen, answer)

    def _answer(self, seen: Seen, answer: Answer) -> None:
        # Whoever hears nothing asks again, or takes it that all are wanted.
        self._send(encode_wanted(seen, answer))

    def _tell(self, source: Source, told: Sequence[News]) -> None:
        for news in told:
            self._send(encode_news(source, news))
            if self._home is not None:
                self._home.news(source, news)

    def _count_people(self, source: Source, camera: _Camera) -> None:
        # Not from the news: a visit whose first picture never came ends without any.
        if self._home is not None:
            self._home.people(source, len(camera.visits))

    def _send(self, message: Message) -> None:
        try:
            self._publish(message)
        except (LinkDown, PacketTooLarge) as error:
            _not_sent.count("not_sent", topic=message.topic, detail=str(error))
