"""Pictures from an MQTT topic: the adapter between a link and a camera's flow."""

import asyncio
import math
import time
from collections.abc import Callable

from services.capture.cameras import Camera
from services.capture.metrics import Tally
from services.capture.source.child import CameraUnavailable
from services.capture.source.redaction import redact
from services.capture.source.watch import Ending
from services.capture.stream.picture import OnPicture
from services.capture.topic import parse_topic, to_picture
from services.common.errors import Refused, SetupError
from services.common.mqtt import Delivery, Link
from services.common.mqtt.broker import Broker

MOST_PACKET_BYTES = 16 * 1024 * 1024
"""The broker is told not to send more. Twelve megabytes of JPEG in base64 are in it."""
MOST_WAITING_BYTES = 32 * 1024 * 1024
"""Messages beyond it are dropped: they come faster than this machine can look at them."""
CHECK_EVERY_S = 0.5
"""How often the connection is checked while no message comes, in seconds."""


class Subscription:
    """A camera that is a topic: each message is a picture, and the newest replaces those that wait.

    It may be silent for `quiet_s`: some publish only when there is something to see.

    Args:
        camera: which one.
        device: this device's name.
        local: the broker on this device, for an address that names none.
        start_timeout_s: how long a connection may take, in seconds.
        tally: counts.
        on_subscribed: called when the broker has granted the subscription, where the topic may be silent for
            ever: more cannot be known of such a camera.

    Raises:
        SetupError: the camera's address cannot be used.
    """

    def __init__(
        self,
        camera: Camera,
        device: str,
        local: Broker,
        *,
        start_timeout_s: float,
        tally: Tally,
        on_subscribed: Callable[[], None] = lambda: None,
    ) -> None:
        place = parse_topic(camera.name, camera.url)
        self._url = camera.url
        self._name = f"camera/{camera.name}"
        self._identity = f"capture-{device}-{camera.name}-topic"
        self._topic = place.topic
        self._broker = (
            Broker(place.broker, place.password, trust=camera.options.trust) if place.broker else local
        )
        self._start_timeout_s = start_timeout_s
        self._quiet_s = camera.options.quiet_s or math.inf
        self._tally = tally
        self._on_subscribed = on_subscribed

    async def check(self) -> None:
        """Return if the broker grants the subscription.

        Raises:
            CameraUnavailable: it does not; says why.
        """
        async with self._link() as link:
            problem = await self._problem(link)
        self._raise(problem)

    async def run(self, on_picture: OnPicture) -> Ending:
        """Hand on pictures until the connection is lost, or the topic has been silent for `quiet_s`.

        Raises:
            CameraUnavailable: there is no connection or no subscription in time.
        """
        self._tally.starts.inc()
        ending = Ending("unavailable", None, 0, "")
        async with self._link() as link:
            if (problem := await self._problem(link)) is None:
                if self._quiet_s == math.inf:
                    self._on_subscribed()
                ending = await _Listener(link, on_picture, self._quiet_s, self._tally).run()
        self._raise(problem)
        return ending

    def _link(self) -> Link:
        def wants(_topic: str, size_bytes: int) -> bool:
            if link.waiting_bytes + size_bytes <= MOST_WAITING_BYTES:
                return True
            self._tally.frames.inc()
            self._tally.drop("queue_full")
            return False

        try:
            link = Link(
                self._name,
                self._broker,
                identity=self._identity,
                subscriptions=[self._topic],
                most_bytes=MOST_PACKET_BYTES,
                wants=wants,
            )
        except SetupError as error:  # of one camera; the others go on
            raise CameraUnavailable(str(error)) from error
        return link

    async def _problem(self, link: Link) -> str | None:
        """Wait for the connection and the subscription; return None, or why there is none in time."""
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await link.wait_up()
        except TimeoutError:
            return link.why_not_ready() or "no subscription"
        return None

    def _raise(self, problem: str | None) -> None:
        """Raise what was wrong. Outside of the link's context, which would wrap the error in a group."""
        if problem is not None:
            raise CameraUnavailable(redact(problem, self._url))


class _Listener:
    def __init__(self, link: Link, on_picture: OnPicture, quiet_s: float, tally: Tally) -> None:
        self._link = link
        self._on_picture = on_picture
        self._quiet_s = quiet_s
        self._tally = tally
        self._pictures = 0

    async def run(self) -> Ending:
        deadline_s = time.monotonic() + self._quiet_s
        while self._link.is_up:
            delivery = await self._next()
            if delivery is not None and await self._take(delivery):
                deadline_s = time.monotonic() + self._quiet_s
            elif time.monotonic() > deadline_s:
                return self._ending("stalled" if self._pictures else "silent")
        return self._ending("lost")

    async def _next(self) -> Delivery | None:
        try:
            async with asyncio.timeout(CHECK_EVERY_S):
                return await anext(self._link)
        except TimeoutError:
            return None

    async def _take(self, delivery: Delivery) -> bool:
        """Hand on a message's picture; say whether it is one, or a newer message is here already."""
        delivery.acknowledge()
        if self._link.waiting_bytes:
            self._tally.frames.inc()
            self._tally.drop("replaced")
            return True
        try:
            picture = to_picture(delivery.message)
        except Refused as error:
            self._tally.skip({error.reason: 1})
            return False
        self._pictures += 1
        await self._on_picture(picture)
        return True

    def _ending(self, reason: str) -> Ending:
        return Ending(reason, None, self._pictures, "")
