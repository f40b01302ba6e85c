"""Notifies that a person has come, once the picture is stored, with a link to it that needs no login."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from services.common.notify import notifications
from services.common.notify.notifications import MOST_PICTURE_BYTES, VisitBegan
from services.common.notify.sender import MOST, NOTIFY_DROPPED, NotificationSender
from services.common.runtime.metrics import Drops
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.storage.visits import Part, part_in
from services.common.wire.cloudevents import is_time_known
from services.common.wire.topics import Source
from services.store.admission import Admitted
from services.store.settings import StoreSettings

if TYPE_CHECKING:
    from services.common.wire.faces import Face

NEWS_FOR = timedelta(hours=1)
"""A face taken longer ago comes from the backlog of an outage, and is no news any more."""

log = structlog.get_logger()
_drops = Drops(NOTIFY_DROPPED, "store.message_not_sent")


class Notifier:
    """Sends a notification of each visit's first picture, once it is stored.

    Storing never waits for it. It holds a bounded number of faces, and drops and counts the oldest of more.

    Args:
        objects: the bucket or folder, which gives links.
        sender: sends messages.
        url: of the receiver; see `notifications.check_url`.
        link_s: for how many seconds a link is valid.
        has_picture: whether the picture itself is sent as well.
    """

    def __init__(
        self, objects: ObjectStore, sender: NotificationSender, url: str, *, link_s: int, has_picture: bool
    ) -> None:
        self._objects = objects
        self._sender = sender
        self._url = url
        self._link_s = link_s
        self._has_picture = has_picture
        self._faces: deque[tuple[Face, Part, str]] = deque()
        self._wake = asyncio.Event()

    def note(self, admitted: Admitted) -> None:
        """Take a newly stored face; any but a live visit's first picture is passed over."""
        face, part = admitted.face, part_in(admitted.item.metadata)
        if part is None or part.shot != 1 or face.extensions.get("flow") == "paced":
            return
        if is_time_known(face.extensions) and datetime.now(UTC) - face.time > NEWS_FOR:
            _drops.count("too_old", visit=part.visit)
            return
        if len(self._faces) >= MOST:
            _drops.count("too_many", visit=self._faces.popleft()[1].visit)
        is_shown = self._has_picture and len(face.image) <= MOST_PICTURE_BYTES
        self._faces.append((face if is_shown else replace(face, image=b""), part, admitted.item.key))
        self._wake.set()

    async def run(self) -> None:
        """Compose messages and hand them to the sender, until cancelled."""
        while True:
            self._wake.clear()
            while self._faces:
                face, part, key = self._faces.popleft()
                came = VisitBegan(part.visit, part.began, part.quality, link=await self._link(key))
                self._sender.post(notifications.write(self._url, face, came, has_picture=bool(face.image)))
            await self._wake.wait()

    async def _link(self, key: str) -> str | None:
        try:
            return await self._objects.link(key, self._link_s)
        except StoreUnavailable as error:
            log.warning("store.no_link", reason=error.reason)
            return None


@asynccontextmanager
async def notifying(
    objects: ObjectStore, settings: StoreSettings, is_erased: Callable[[Source, str, str], bool]
) -> AsyncIterator[Callable[[Admitted], None]]:
    """Send notifications for as long as the context lasts.

    Args:
        objects: where the faces are stored.
        settings: of this service; without a receiver nothing is sent.
        is_erased: see `NotificationSender`.

    Yields:
        a function to call with each newly stored face.
    """
    if settings.store_notify_url is None:
        yield lambda _admitted: None
        return
    url, secret = settings.store_notify_url.get_secret_value(), settings.store_notify_secret
    sender = NotificationSender(
        url,
        secret.get_secret_value() if secret is not None else None,
        per_minute=settings.store_notify_per_minute,
        is_erased=is_erased,
    )
    notifier = Notifier(
        objects,
        sender,
        url,
        link_s=settings.store_notify_link_s,
        has_picture=settings.store_notify_picture,
    )
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(sender.run(), name="store.notify"),
            tasks.create_task(notifier.run(), name="store.notifications"),
        ]
        try:
            yield notifier.note
        finally:
            for task in running:
                task.cancel()
