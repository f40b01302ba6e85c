"""Keeps Home Assistant told of this device, its cameras and who is there."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.metrics import Drops
from services.common.wire.message import Message
from services.common.wire.topics import Source, device_topic, parse_camera_topic
from services.common.wire.visits import News, Stage
from services.forward import metrics
from services.forward.home_assistant import discovery
from services.forward.home_assistant.days import Day, device_message, read_day

MOST_CAMERAS = 256
"""Beyond it no new one is announced: names come from the device's broker."""
DEVICE_EVERY_S = 10.0
"""How often figures of the device are told, if they change; its link at once."""

FORWARD = "forward"
"""In the place of a camera's name: what is the device's own."""
COMES_BACK_S = 60.0
"""For so long a camera that an earlier process knew may have no state before it is gone."""

_drops = Drops(metrics.DROPPED, "forward.message_dropped")


@dataclass(slots=True)
class _CameraEntities:
    """What is told of a camera.

    Attributes:
        day: its figures.
        content_type: of its pictures.
        has_looked_back: whether what an earlier process has told was taken over, or is known to be none.
    """

    day: Day
    content_type: str = "image/jpeg"
    has_looked_back: bool = False


class HomeAssistant:
    """Says what Home Assistant makes entities of, into the local broker, which keeps it.

    Args:
        device: this device.
        publish: sends to the local broker.
        today: says what day it is here.
        now_s: a steady clock, in seconds.

    Attributes:
        own_topic: forward's own state.
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
        """Return forward's own state, as the local broker keeps it."""
        return Message(topic=self.own_topic, payload=payload, qos=1, retain=True)

    def link_up(self) -> None:
        """Say everything to a new connection: the broker may have forgotten it."""
        self._up_s = self._now_s()
        self._send(self.status(b"online"))
        self._send(discovery.device_config(self._device))
        if self._told is not None:
            self._send(self._told)
        for source, camera in self._cameras.items():
            self._announce(source, camera)

    def take_state(self, message: Message) -> None:
        """Take a camera's state: an unknown one is announced, and one that is gone taken back.

        Raises:
            Refused: `bad_topic`.
        """
        source = parse_camera_topic(message.topic, "status")
        if message.payload:
            self._camera(source)
        elif self._cameras.pop(source, None) is not None:
            self._take_back(source)

    def take_own(self, message: Message) -> None:
        """Take what was told of a camera before: the first that is heard of it, for the rest is an echo.

        Raises:
            Refused: it is none of ours.
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
        """Note that a camera's latest picture is another, of this type."""
        camera = self._camera(source)
        if camera is not None and content_type != camera.content_type:
            camera.content_type = content_type
            self._announce(source, camera)

    def news(self, source: Source, news: News) -> None:
        """Take what has happened to a visit."""
        if (camera := self._camera(source)) is None:
            return
        camera.day.turn(self._today())
        camera.day.see(news.seen)
        camera.day.visits += news.stage is Stage.BEGAN
        if news.stage is not Stage.BETTER:
            self._tell(source, camera)

    def people(self, source: Source, count: int) -> None:
        """Take how many are before a camera."""
        if (camera := self._camera(source)) is not None and camera.day.people != count:
            camera.day.people = count
            self._tell(source, camera)

    def measure(self, *, is_cloud_up: bool, waiting: int, oldest_s: float) -> None:
        """Take the device's figures, and see what day it is, and which cameras have not come back."""
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
        """Return a camera, which is announced when it is new, or None where there are too many."""
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
            return  # the next connection is told everything
        except PacketTooLarge as error:
            _drops.count("not_sent", topic=message.topic, detail=str(error))
