"""Messages to a phone or a web hook, sent by the device itself, when a visit begins."""

from services.common.erasure.selection import Selection
from services.common.notify import letters
from services.common.notify.letters import Came
from services.common.notify.messenger import Messenger
from services.common.wire.faces import Face
from services.common.wire.visits import VisitEvent
from services.forward.settings import ForwardSettings


class VisitNotifier:
    """Has a message sent for each visit that begins.

    Args:
        url: the receiver; see `letters.check_url`.
        messenger: sends the messages, in the background.
        has_picture: whether a message has the visit's first picture.
    """

    def __init__(self, url: str, messenger: Messenger, *, has_picture: bool) -> None:
        self._url = url
        self._messenger = messenger
        self._has_picture = has_picture

    def began(self, face: Face, news: VisitEvent) -> None:
        """Post a message of a visit that has begun, unless it is of a recording that is played."""
        if face.extensions.get("flow") != "paced":
            came = Came.of(news)
            self._messenger.post(letters.write(self._url, face, came, has_picture=self._has_picture))

    def erase(self, selection: Selection) -> None:
        """Drop messages that were not sent yet and are of faces that are erased."""
        self._messenger.erase(selection)

    async def run(self) -> None:
        """Send messages, until cancelled."""
        await self._messenger.run()


def make_notifier(settings: ForwardSettings) -> VisitNotifier | None:
    """Return a notifier, or None if there is no receiver (`FACEFERRY_NOTIFY_URL`)."""
    if settings.notify_url is None:
        return None
    url, secret = settings.notify_url.get_secret_value(), settings.notify_secret
    messenger = Messenger(
        url,
        secret.get_secret_value() if secret is not None else None,
        per_minute=settings.notify_per_minute,
    )
    return VisitNotifier(url, messenger, has_picture=settings.notify_picture)
