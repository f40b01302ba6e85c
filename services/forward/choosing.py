"""Says which of the faces that detect sees are worth cutting and carrying."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.drops import Drops
from services.common.faces import Face
from services.common.message import Message
from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.sights import Seen, Wanted, decode_seen, encode_wanted
from services.common.topics import Source
from services.forward import metrics
from services.forward.visits.order import Order
from services.forward.visits.visits import Rules, Visits, thrifty

MOST_CAMERAS = 256
"""Whose visits are known; of more the one that was seen longest ago is forgotten, and begins anew."""
TICK_S = 0.5
KEPT_ANSWERS = 64
"""Of one camera: a question that is asked again gets the same answer."""
MISSING_S = 2.0
"""A picture of a live camera that was wanted and has not come by then died with a detect."""

_Key = tuple[int, datetime]

_refused = Drops(metrics.DROPPED, "forward.message_dropped")


@dataclass(slots=True)
class _Camera:
    visits: Visits = field(default_factory=Visits)
    order: Order = field(default_factory=Order)
    answers: OrderedDict[_Key, list[Wanted]] = field(default_factory=OrderedDict)


class Chooser:
    """Answers detect's questions from what it knows of the visits before each camera.

    It holds no pixels. If it dies, nobody is missed: what is not answered is cut, and who is there is seen
    for the first time again.

    Args:
        rules: what a visit is.
        publish: sends to the local broker.
        fill: says how full the spool is, 0..1.
    """

    def __init__(
        self, rules: Rules, *, publish: Callable[[Message], None], fill: Callable[[], float]
    ) -> None:
        self._rules = rules
        self._publish = publish
        self._fill = fill
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

    async def go_on_for_ever(self) -> None:
        """Answer what has waited too long for an earlier frame's turn, and keep the gauge."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            for camera in self._cameras.values():
                self._choose(camera, camera.order.overdue(now_s))
            metrics.VISITS_OPEN.set(sum(len(camera.visits) for camera in self._cameras.values()))

    def came(self, face: Face) -> None:
        """Note a face that is here: its visit has the picture that was wanted."""
        camera = self._cameras.get(face.source)
        if camera is not None and (visit := face.extensions.get("visit")) is not None:
            camera.visits.came(visit, face.extensions.get("shot", ""))

    def _camera(self, source: Source) -> _Camera:
        camera = self._cameras.pop(source, None) or _Camera()
        self._cameras[source] = camera
        if len(self._cameras) > MOST_CAMERAS:
            self._cameras.popitem(last=False)
        return camera

    def _choose(self, camera: _Camera, questions: Sequence[Seen]) -> None:
        for seen in questions:
            if seen.paced and seen.after is None:
                camera.visits = Visits()  # the recording from its start: nobody is there yet
            rules = thrifty(self._rules, self._fill())
            # A recording's own time says nothing of how long a picture has been on its way.
            choices = camera.visits.look(seen, rules if seen.paced else replace(rules, missing_s=MISSING_S))
            metrics.SIGHTS.inc(len(seen.view.sights))
            for choice in choices:
                metrics.WANTED.labels(choice.why).inc()
            wanted = [choice.wanted for choice in choices]
            camera.answers[seen.sequence, seen.time] = wanted
            if len(camera.answers) > KEPT_ANSWERS:
                camera.answers.popitem(last=False)
            self._answer(seen, wanted)

    def _answer(self, seen: Seen, wanted: Sequence[Wanted]) -> None:
        # Whoever hears nothing asks again, or takes it that all are wanted.
        try:
            self._publish(encode_wanted(seen, wanted))
        except (LinkDown, PacketTooLarge) as error:
            _refused.count("answer_not_sent", source=str(seen.source), detail=str(error))
