"""Notifications that a visit has begun, in the formats of the receivers. Pure."""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self
from urllib.parse import SplitResult, urlsplit

from services.common.wire import times
from services.common.wire.faces import Face
from services.common.wire.message import to_json
from services.common.wire.topics import Source
from services.common.wire.visits import VisitEvent

SCHEMES = frozenset({"http", "https", "ntfy", "ntfys", "tgram"})
MOST_PICTURE_BYTES = 1024 * 1024
"""A larger picture is left out."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix of secrets, not a secret


@dataclass(frozen=True, slots=True)
class Notification:
    """One message.

    Attributes:
        id: the visit's id; the same each time it is sent.
        url: the receiver's; it may have a token.
        body: of the HTTP request.
        headers: of the request, without the signature, which depends on the time of sending.
        is_signed: whether the format has signatures.
        face: the camera and the id of the face in the picture, or None.
    """

    id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    is_signed: bool = False
    face: tuple[Source, str] | None = None


@dataclass(frozen=True, slots=True)
class VisitBegan:
    """The beginning of a visit.

    Attributes:
        visit: the visit's id.
        began: when, UTC.
        quality: of the first picture, 0..1; None where it is not known.
        people: number of open visits at the camera; None where it is not known.
        link: an address that shows the picture without a key, for a time; None without one.
    """

    visit: str
    began: datetime
    quality: float | None = None
    people: int | None = None
    link: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, news: VisitEvent) -> Self:
        """Return it from a device's news of a visit."""
        return cls(news.visit, news.began, news.quality, news.people)


def check_url(text: str) -> SplitResult:
    """Return the parts of a receiver's address.

    Raises:
        ValueError: it is not one of a supported kind.
    """
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError(
            "an address such as https://host/path, ntfys://ntfy.sh/topic or tgram://TOKEN/CHAT is wanted"
        )
    if parts.scheme in ("ntfy", "ntfys", "tgram") and not parts.path.strip("/"):
        raise ValueError("a topic, or a chat, stands behind the host's or the bot's name")
    return parts


def check_secret(secret: str) -> bytes:
    """Return the key of a secret: after `whsec_` it is base64, else the text itself.

    Raises:
        ValueError: it is not base64.
    """
    plain = secret.removeprefix(_SECRET_PREFIX)
    return base64.b64decode(plain, validate=True) if plain != secret else plain.encode()


def address(url: str) -> str:
    """Return the receiver for logs: only the scheme and the host, because the rest may be a secret."""
    parts = urlsplit(url)
    return "Telegram" if parts.scheme == "tgram" else f"{parts.scheme}://{parts.hostname}"


def write(url: str, face: Face, came: VisitBegan, *, has_picture: bool) -> Notification:
    """Return the notification that a visit has begun.

    Args:
        url: the receiver's; its scheme decides the format.
        face: the visit's first picture.
        came: the visit.
        has_picture: whether to attach the picture.
    """
    picture = face.image if has_picture and len(face.image) <= MOST_PICTURE_BYTES else b""
    match check_url(url).scheme:
        case "ntfy" | "ntfys":
            notification = _ntfy(url, face, came, picture)
        case "tgram":
            notification = _telegram(url, face, came, picture)
        case _:
            notification = _webhook(url, face, came, picture)
    return replace(notification, face=(face.source, face.id))


def signature(notification: Notification, secret: str, at_s: int) -> dict[str, str]:
    """Return the headers of Standard Webhooks, which prove the sender and the time `at_s` (Unix time).

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    key = check_secret(secret)
    signed = b".".join((notification.id.encode(), b"%d" % at_s, notification.body))
    digest = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {
        "webhook-id": notification.id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{digest}",
    }


def _webhook(url: str, face: Face, came: VisitBegan, picture: bytes) -> Notification:
    body: dict[str, object] = {
        "type": "faceferry.visit.began",
        "timestamp": times.rfc3339(came.began),
        "data": {
            "device": face.source.device,
            "camera": face.source.camera,
            "visit": came.visit,
            "face": face.id,
            **({"people": came.people} if came.people is not None else {}),
            **({"quality": round(came.quality, 3)} if came.quality is not None else {}),
            **({"url": came.link} if came.link is not None else {}),
            **(
                {"content_type": face.content_type, "picture": base64.b64encode(picture).decode()}
                if picture
                else {}
            ),
        },
    }
    return Notification(came.visit, url, to_json(body), {"Content-Type": "application/json"}, is_signed=True)


def _ntfy(url: str, face: Face, came: VisitBegan, picture: bytes) -> Notification:
    """Return a publication; https://docs.ntfy.sh/publish/#attach-local-file."""
    parts = check_url(url)
    scheme = "https" if parts.scheme == "ntfys" else "http"
    place = parts.netloc.rpartition("@")[2]
    headers = {"Title": _title(face), "Tags": "bust_in_silhouette"}
    if parts.password or parts.username:
        user = base64.b64encode(f"{parts.username}:{parts.password or ''}".encode()).decode()
        headers["Authorization"] = f"Basic {user}"
    text = _text(came)
    if came.link is not None:
        headers["Click"] = came.link
        if not picture:
            headers["Attach"] = came.link  # ntfy fetches it
    if picture:
        headers |= {"Message": text, "Filename": f"face.{face.content_type.rpartition('/')[2]}"}
    return Notification(came.visit, f"{scheme}://{place}{parts.path}", picture or text.encode(), headers)


def _telegram(url: str, face: Face, came: VisitBegan, picture: bytes) -> Notification:
    """Return a call of a bot; https://core.telegram.org/bots/api#sendphoto."""
    token, chat = url.removeprefix("tgram://").rstrip("/").split("/", 1)
    text = f"{_title(face)}, {_text(came)}" + (f"\n{came.link}" if came.link is not None else "")
    root = f"https://api.telegram.org/bot{token}"
    if not picture:
        body = to_json({"chat_id": chat, "text": text})
        return Notification(came.visit, f"{root}/sendMessage", body, {"Content-Type": "application/json"})
    mark = f"faceferry-{face.id.rpartition('-')[2]}"
    fields = b"".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("chat_id", chat), ("caption", text))
    )
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="photo"; filename="face"\r\n'
        f"Content-Type: {face.content_type}\r\n\r\n"
    ).encode()
    body = b"".join((fields, head, picture, f"\r\n--{mark}--\r\n".encode()))
    return Notification(
        came.visit, f"{root}/sendPhoto", body, {"Content-Type": f"multipart/form-data; boundary={mark}"}
    )


def _title(face: Face) -> str:
    return f"Somebody at {face.source.camera} ({face.source.device})"


def _text(came: VisitBegan) -> str:
    others = f", {came.people} people there" if (came.people or 0) > 1 else ""
    return f"{came.began:%Y-%m-%d %H:%M:%S} UTC{others}"
