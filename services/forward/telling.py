"""Who is told, by the device itself, that somebody came."""

from services.common.erasure.selection import Selection
from services.common.notify import notifications
from services.common.notify.notifications import VisitBegan
from services.common.notify.notifier import Notifier
from services.common.wire.faces import Face
from services.common.wire.visits import News
from services.forward.settings import ForwardSettings


class Teller:
    """Makes a message of each visit that begins.

    Args:
        url: to whom; see `notifications.check_url`.
        notifier: sends messages.
        has_picture: whether pictures go along.
    """

    def __init__(self, url: str, notifier: Notifier, *, has_picture: bool) -> None:
        self._url = url
        self._notifier = notifier
        self._has_picture = has_picture

    def began(self, face: Face, news: News) -> None:
        """Take note of a visit that has begun; what is played from a recording is no news."""
        if face.extensions.get("flow") != "paced":
            came = VisitBegan.of(news)
            self._notifier.post(notifications.write(self._url, face, came, has_picture=self._has_picture))

    def erase(self, selection: Selection) -> None:
        """Forget what was not sent yet of faces that are erased."""
        self._notifier.erase(selection)

    async def run(self) -> None:
        """Send what there is, until cancelled."""
        await self._notifier.run()


def make_teller(settings: ForwardSettings) -> Teller | None:
    """Return one, where somebody is to be told."""
    if settings.notify_url is None:
        return None
    url, secret = settings.notify_url.get_secret_value(), settings.notify_secret
    notifier = Notifier(
        url,
        secret.get_secret_value() if secret is not None else None,
        per_minute=settings.notify_per_minute,
    )
    return Teller(url, notifier, has_picture=settings.notify_picture)
