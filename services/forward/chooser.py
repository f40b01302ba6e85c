"""Decides which of the faces that detect sees it should cut, camera by camera."""

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
from services.common.wire.seen import Seen, SeenAnswer, decode_seen, encode_wanted
from services.common.wire.topics import Source
from services.common.wire.visits import Stage, VisitEvent, encode_latest, encode_visit_event
from services.forward import metrics
from services.forward.home_assistant.entities import HomeAssistant
from services.forward.notifier import VisitNotifier
from services.forward.relay import LatestPictures
from services.forward.visits.camera_visits import CameraVisits, VisitRules, rules_at_fill
from services.forward.visits.reordering import ReorderBuffer

MOST_CAMERAS = 256
"""Whose visits are known. Of more cameras the one that was heard of longest ago is forgotten."""
TICK_S = 0.5
KEPT_ANSWERS = 64
"""Of one camera: a question that is asked again gets the same answer."""
MISSING_S = 2.0
"""A wanted picture of a live camera that has not come by then is lost: the detect that had it died."""

_Key = tuple[int, datetime]

_not_sent = Drops(metrics.DROPPED, "forward.message_dropped")


@dataclass(frozen=True, slots=True)
class _Live:
    """The clock of a live camera.

    Attributes:
        frame_s: the time of its last frame, Unix time.
        since_s: when that frame's question came, by the monotonic clock.
    """

    frame_s: float
    since_s: float

    def at(self, now_s: float) -> float:
        """Return what the camera's clock shows now, Unix time."""
        return self.frame_s + now_s - self.since_s


@dataclass(slots=True)
class _Camera:
    """What is known of a camera.

    Attributes:
        visits: its open visits.
        order: puts its questions into the order of its frames, if it plays a recording.
        answers: the last ones, by the frame's number and time.
        live: its clock; None for a recording, whose visits end by the time of its frames alone.
    """

    visits: CameraVisits = field(default_factory=CameraVisits)
    order: ReorderBuffer = field(default_factory=ReorderBuffer)
    answers: OrderedDict[_Key, SeenAnswer] = field(default_factory=OrderedDict)
    live: _Live | None = None


class Chooser:
    """Answers detect's questions from what it knows of the visits before each camera.

    It holds no pixels. If it dies no person is missed: detect cuts what is not answered, and each person in
    view begins a new visit.

    Args:
        rules: what a visit is.
        publish: sends to the local broker.
        fill: returns how full the spool is, 0..1.
        latest: is told whose picture the local broker keeps of a camera from then on.
        home: is told of visits and of how many people are there; None if Home Assistant is not used.
        notifier: is handed the first picture of each visit; None if no message is to be sent.
    """

    def __init__(
        self,
        rules: VisitRules,
        *,
        publish: Callable[[Message], None],
        fill: Callable[[], float],
        latest: LatestPictures,
        home: HomeAssistant | None = None,
        notifier: VisitNotifier | None = None,
    ) -> None:
        self._rules = rules
        self._publish = publish
        self._fill = fill
        self._home = home
        self._notifier = notifier
        self._latest = latest
        self._cameras: OrderedDict[Source, _Camera] = OrderedDict()

    def take(self, message: Message) -> None:
        """Take a question of detect (`seen`), and answer what is due.

        Raises:
            Refused: the message is none.
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
        """End visits, and answer questions that waited too long for an earlier frame, until cancelled."""
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
        """Note a face that is taken: its visit has the picture that was wanted."""
        camera = self._cameras.get(face.source)
        if camera is None or (visit := face.extensions.get("visit")) is None:
            return
        news = camera.visits.picture_arrived(visit, face.extensions.get("shot", ""), face.id)
        if news is not None:
            self._tell(face.source, [news])
            if self._home is not None:
                self._home.picture_changed(face.source, face.content_type)
            if self._notifier is not None and news.stage is Stage.BEGAN:
                self._notifier.began(face, news)
            self._send(encode_latest(face))
            self._latest.picture_kept(face.source, face.id, visit)

    def _camera(self, source: Source) -> _Camera:
        camera = self._cameras.pop(source, None) or _Camera()
        self._cameras[source] = camera
        if len(self._cameras) > MOST_CAMERAS:
            self._cameras.popitem(last=False)
        return camera

    def _choose(self, camera: _Camera, questions: Sequence[Seen]) -> None:
        for seen in questions:
            if seen.paced and seen.after is None:
                self._tell(seen.source, camera.visits.close())  # a recording that begins: no visit goes on
            rules = rules_at_fill(self._rules, self._fill())
            # The time of a recording does not tell how long a picture has been on its way.
            wanted = camera.visits.look(seen, rules if seen.paced else replace(rules, missing_s=MISSING_S))
            camera.live = None if seen.paced else _Live(seen.time.timestamp(), time.monotonic())
            self._tell(seen.source, camera.visits.ended())
            self._count_people(seen.source, camera)
            metrics.SIGHTS.inc(len(seen.view.faces))
            for each in wanted:
                metrics.WANTED.labels(each.why).inc()
            answer = SeenAnswer(wanted, None if seen.paced else camera.visits.look_rate(seen))
            camera.answers[seen.sequence, seen.time] = answer
            if len(camera.answers) > KEPT_ANSWERS:
                camera.answers.popitem(last=False)
            self._answer(seen, answer)

    def _answer(self, seen: Seen, answer: SeenAnswer) -> None:
        # A detect that gets no answer asks again, or cuts all of them.
        self._send(encode_wanted(seen, answer))

    def _tell(self, source: Source, told: Sequence[VisitEvent]) -> None:
        for news in told:
            self._send(encode_visit_event(source, news))
            if self._home is not None:
                self._home.news(source, news)

    def _count_people(self, source: Source, camera: _Camera) -> None:
        # Counted here, because a visit whose first picture never came ends without news.
        if self._home is not None:
            self._home.people(source, len(camera.visits))

    def _send(self, message: Message) -> None:
        try:
            self._publish(message)
        except (LinkDown, PacketTooLarge) as error:
            _not_sent.count("not_sent", topic=message.topic, detail=str(error))
