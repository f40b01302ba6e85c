"""Messages to a phone or a web hook, sent by the device itself, when a visit begins."""

from services.common.erasure.selection import Selection
from services.common.notify import notifications
from services.common.notify.notifications import VisitBegan
from services.common.notify.sender import NotificationSender
from services.common.wire.faces import Face
from services.common.wire.visits import VisitEvent
from services.forward.settings import ForwardSettings


class VisitNotifier:
    """Has a message sent for each visit that begins.

    Args:
        url: the receiver; see `notifications.check_url`.
        sender: sends the messages, in the background.
        has_picture: whether a message has the visit's first picture.
    """

    def __init__(self, url: str, sender: NotificationSender, *, has_picture: bool) -> None:
        self._url = url
        self._sender = sender
        self._has_picture = has_picture

    def began(self, face: Face, news: VisitEvent) -> None:
        """Post a message of a visit that has begun, unless it is of a recording that is played."""
        if face.extensions.get("flow") != "paced":
            came = VisitBegan.of(news)
            self._sender.post(notifications.write(self._url, face, came, has_picture=self._has_picture))

    def erase(self, selection: Selection) -> None:
        """Drop messages that were not sent yet and are of faces that are erased."""
        self._sender.erase(selection)

    async def run(self) -> None:
        """Send messages, until cancelled."""
        await self._sender.run()


def make_notifier(settings: ForwardSettings) -> VisitNotifier | None:
    """Return a notifier, or None if there is no receiver (`FACEFERRY_NOTIFY_URL`)."""
    if settings.notify_url is None:
        return None
    url, secret = settings.notify_url.get_secret_value(), settings.notify_secret
    sender = NotificationSender(
        url,
        secret.get_secret_value() if secret is not None else None,
        per_minute=settings.notify_per_minute,
    )
    return VisitNotifier(url, sender, has_picture=settings.notify_picture)
