"""Publishes the states of this device and its cameras for Home Assistant."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.metrics import Drops
from services.common.wire.message import Message
from services.common.wire.topics import Source, device_topic, parse_camera_topic
from services.common.wire.visits import Stage, VisitEvent
from services.forward import metrics
from services.forward.home_assistant import discovery
from services.forward.home_assistant.days import Day, device_message, read_day

MOST_CAMERAS = 256
"""Beyond it no new camera is announced: names come from the device's broker."""
DEVICE_EVERY_S = 10.0
"""How often the device's figures are published if they change; a change of its link is at once."""

FORWARD = "forward"
"""In the place of a camera's name on topics of the device itself."""
COMES_BACK_S = 60.0
"""A camera that an earlier process has announced is removed if it has had no state for so long."""

_drops = Drops(metrics.DROPPED, "forward.message_dropped")


@dataclass(slots=True)
class _CameraEntities:
    """What is published of a camera.

    Attributes:
        day: its figures.
        content_type: of its pictures.
        has_looked_back: whether the figures of an earlier process were taken over, or there are none.
    """

    day: Day
    content_type: str = "image/jpeg"
    has_looked_back: bool = False


class HomeAssistant:
    """Publishes, retained, on the local broker what Home Assistant makes entities of.

    Args:
        device: this device.
        publish: sends to the local broker.
        today: returns the date in this device's time zone.
        now_s: a monotonic clock, in seconds.

    Attributes:
        own_topic: the topic of forward's own state.
    """

    def __init__(
        self,
        device: str,
        publish: Callable[[Message], None],
        *,
        today: Callable[[], date] = date.today,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own_topic = device_topic(device, "forward/status")
        self._device = device
        self._publish = publish
        self._today = today
        self._now_s = now_s
        self._cameras: dict[Source, _CameraEntities] = {}
        self._before: dict[Source, Day] = {}
        self._up_s = float("inf")
        self._told: Message | None = None
        self._is_cloud_up: bool | None = None
        self._told_s = float("-inf")

    def status(self, payload: bytes) -> Message:
        """Return forward's own state as the message that the broker retains."""
        return Message(topic=self.own_topic, payload=payload, qos=1, retain=True)

    def link_up(self) -> None:
        """Publish everything over a new connection: the broker may have lost it."""
        self._up_s = self._now_s()
        self._send(self.status(b"online"))
        self._send(discovery.device_config(self._device))
        if self._told is not None:
            self._send(self._told)
        for source, camera in self._cameras.items():
            self._announce(source, camera)

    def take_state(self, message: Message) -> None:
        """Take a camera's state: announce an unknown camera; remove one whose state was removed.

        Raises:
            Refused: `bad_topic`.
        """
        source = parse_camera_topic(message.topic, "status")
        if message.payload:
            self._camera(source)
        elif self._cameras.pop(source, None) is not None:
            self._take_back(source)

    def take_own(self, message: Message) -> None:
        """Take the retained figures of a camera that an earlier process has published; others are our own.

        Raises:
            Refused: the message is something else.
        """
        source = parse_camera_topic(message.topic, "home")
        if not message.payload or source.camera == FORWARD:
            return
        camera = self._cameras.get(source)
        if camera is None:
            if message.retain and len(self._before) < MOST_CAMERAS:
                self._before[source] = read_day(message.payload)
        elif not camera.has_looked_back:
            camera.has_looked_back = True
            if message.retain:
                camera.day.take_over(read_day(message.payload))
                self._tell(source, camera)

    def picture_changed(self, source: Source, content_type: str) -> None:
        """Note the type of a camera's new latest picture."""
        camera = self._camera(source)
        if camera is not None and content_type != camera.content_type:
            camera.content_type = content_type
            self._announce(source, camera)

    def news(self, source: Source, news: VisitEvent) -> None:
        """Count what has happened to a visit."""
        if (camera := self._camera(source)) is None:
            return
        camera.day.turn(self._today())
        camera.day.see(news.seen)
        camera.day.visits += news.stage is Stage.BEGAN
        if news.stage is not Stage.BETTER:
            self._tell(source, camera)

    def people(self, source: Source, count: int) -> None:
        """Note how many people are before a camera."""
        if (camera := self._camera(source)) is not None and camera.day.people != count:
            camera.day.people = count
            self._tell(source, camera)

    def measure(self, *, is_cloud_up: bool, waiting: int, oldest_s: float) -> None:
        """Publish the device's figures if due; begin a new day; remove cameras that have not come back."""
        if self._before and self._now_s() - self._up_s > COMES_BACK_S:
            for source in self._before:
                self._take_back(source)
            self._before.clear()
        for source, camera in self._cameras.items():
            if camera.day.on != (today := self._today()):
                camera.day.turn(today)
                self._tell(source, camera)
        told = device_message(self._device, is_cloud_up=is_cloud_up, waiting=waiting, oldest_s=oldest_s)
        is_due = is_cloud_up != self._is_cloud_up or self._now_s() - self._told_s >= DEVICE_EVERY_S
        if is_due and told != self._told:
            self._told, self._is_cloud_up, self._told_s = told, is_cloud_up, self._now_s()
            self._send(told)

    def _camera(self, source: Source) -> _CameraEntities | None:
        """Return a camera, announced if it is new; None for one of another device, or one too many."""
        camera = self._cameras.get(source)
        if camera is None and source.device == self._device and source.camera != FORWARD:
            if len(self._cameras) >= MOST_CAMERAS:
                _drops.count("too_many_cameras", detail=f"{source} is not announced")
                return None
            camera = self._cameras[source] = _CameraEntities(Day(self._today()))
            if (before := self._before.pop(source, None)) is not None:
                camera.day.take_over(before)
                camera.has_looked_back = True
            self._announce(source, camera)
        return camera

    def _announce(self, source: Source, camera: _CameraEntities) -> None:
        self._send(discovery.camera_config(source, camera.content_type))
        self._tell(source, camera)

    def _take_back(self, source: Source) -> None:
        for kept in (discovery.camera_config(source, ""), Day(self._today()).message(source)):
            self._send(Message(topic=kept.topic, qos=1, retain=True))

    def _tell(self, source: Source, camera: _CameraEntities) -> None:
        self._send(camera.day.message(source))

    def _send(self, message: Message) -> None:
        try:
            self._publish(message)
        except LinkDown:
            return  # everything is published again over the next connection
        except PacketTooLarge as error:
            _drops.count("not_sent", topic=message.topic, detail=str(error))
