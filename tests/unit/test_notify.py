"""What is sent when somebody came, and when."""

import base64
import json
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP

import pytest

from services.common.notify.notifications import (
    MOST_PICTURE_BYTES,
    Notification,
    VisitBegan,
    address,
    check_secret,
    check_url,
    signature,
    write,
)
from services.common.notify.sender import LAST_RETRY_S, MOST, NotificationQueue
from services.common.wire.faces import Face, mint
from services.common.wire.topics import Source
from services.common.wire.visits import Stage, VisitEvent

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
NEWS = VisitBegan.of(
    VisitEvent(Stage.BEGAN, "v-1", began=NOON, seen=NOON, picture="p", shot=1, quality=0.5, people=2)
)
HOOK, NTFY, TELEGRAM = (
    "https://example.org/hook?key=1",
    "ntfys://me:secret@ntfy.sh/door",
    "tgram://12:AbC/-99",
)


def face(image: bytes = b"\xff\xd8picture") -> Face:
    return mint(Source("porch", "front"), NOON, image, "image/jpeg", {})


def letter(number: int) -> Notification:
    return Notification(str(number), HOOK, b"{}", {})


def test_a_webhook_gets_json_with_all_that_is_known_and_no_picture_unless_wanted() -> None:
    plain = write(HOOK, face(), NEWS, has_picture=False)
    body = json.loads(plain.body)
    assert (plain.url, plain.id, plain.is_signed) == (HOOK, "v-1", True)
    assert body["type"] == "faceferry.visit.began"
    assert body["timestamp"] == "2026-11-30T12:00:00.000000Z"
    assert body["data"]["device"] == "porch"
    assert body["data"]["people"] == 2
    assert "picture" not in body["data"]
    shown = json.loads(write(HOOK, face(), NEWS, has_picture=True).body)
    assert base64.b64decode(shown["data"]["picture"]) == b"\xff\xd8picture"


def test_it_is_signed_as_standard_webhooks_are() -> None:
    """The example of the libraries of that standard."""
    sent = Notification("msg_p5jXN8AQM9LWM0D4loKWxJek", HOOK, b'{"test": 2432232314}', {})
    assert signature(sent, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1_614_265_330) == {
        "webhook-id": sent.id,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_ntfy_gets_the_picture_as_an_attachment_and_the_password_in_no_address() -> None:
    sent = write(NTFY, face(), NEWS, has_picture=True)
    assert (sent.url, sent.body) == ("https://ntfy.sh/door", b"\xff\xd8picture")
    assert sent.headers["Title"] == "Somebody at front (porch)"
    assert sent.headers["Message"] == "2026-11-30 12:00:00 UTC, 2 people there"
    assert sent.headers["Filename"] == "face.jpeg"
    assert base64.b64decode(sent.headers["Authorization"].removeprefix("Basic ")) == b"me:secret"
    bare = write("ntfy://localhost:8080/door", face(), NEWS, has_picture=False)
    assert (bare.url, bare.body) == ("http://localhost:8080/door", b"2026-11-30 12:00:00 UTC, 2 people there")


def test_telegram_gets_a_photo_with_words_or_words_alone() -> None:
    sent = write(TELEGRAM, face(), NEWS, has_picture=True)
    assert sent.url == "https://api.telegram.org/bot12:AbC/sendPhoto"
    head = f"Content-Type: {sent.headers['Content-Type']}\r\n\r\n".encode()
    parts = {
        part.get_param("name", header="Content-Disposition"): part.get_payload(decode=True)
        for part in BytesParser(policy=HTTP).parsebytes(head + sent.body).iter_parts()
    }
    assert parts["chat_id"] == b"-99"
    assert parts["photo"] == b"\xff\xd8picture"
    assert str(parts["caption"]).startswith("b'Somebody at front")
    words = write(TELEGRAM, face(), NEWS, has_picture=False)
    assert words.url.endswith("/sendMessage")
    assert json.loads(words.body)["chat_id"] == "-99"


def test_a_picture_that_is_too_large_is_left_out() -> None:
    sent = write(HOOK, face(bytes(MOST_PICTURE_BYTES + 1)), NEWS, has_picture=True)
    assert len(sent.body) < 1_000


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org", "https://", "ntfys://ntfy.sh", "tgram://token", "https://a b/"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"wanted|stands behind"):
        check_url(url)


def test_a_secret_that_is_no_base64_is_refused() -> None:
    assert check_secret("as it is") == b"as it is"
    with pytest.raises(ValueError, match=r"base64|padding|character"):
        check_secret("whsec_%%%")


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    assert [address(url) for url in (HOOK, NTFY, TELEGRAM)] == [
        "https://example.org",
        "ntfys://ntfy.sh",
        "Telegram",
    ]
    assert "secret" not in repr(write(NTFY, face(), NEWS, has_picture=True))


def test_after_an_hour_without_a_receiver_the_newest_go_and_no_faster_than_is_allowed() -> None:
    pile, now_s, lost = NotificationQueue(per_minute=6), 0.0, 0
    for number in range(1_000):
        lost += pile.add(letter(number)) is not None
        now_s += 3.6
        if isinstance(pile.next(now_s), Notification):
            pile.failed(now_s, None)
    assert (len(pile), lost) == (MOST, 1_000 - MOST)
    sent: list[tuple[float, str]] = []
    while len(pile):
        match pile.next(now_s):
            case Notification() as found:
                pile.done(found)
                sent.append((now_s, found.id))
            case float() as wait_s:
                assert wait_s <= LAST_RETRY_S
                now_s += wait_s
    assert [each for _, each in sent] == [str(number) for number in range(1_000 - MOST, 1_000)]
    for at_s, _ in sent:
        assert sum(at_s <= other_s < at_s + 60 for other_s, _ in sent) <= 2 * 6


def test_who_asks_to_be_left_alone_is() -> None:
    pile = NotificationQueue(per_minute=60)
    pile.add(letter(0))
    pile.failed(100.0, retry_after_s=30.0)
    assert pile.next(100.0) == 30.0
    assert isinstance(pile.next(130.0), Notification)


def test_a_message_that_had_to_go_while_it_was_sent_is_no_trouble() -> None:
    pile = NotificationQueue(per_minute=60)
    for number in range(MOST + 1):
        pile.add(letter(number))
    pile.done(letter(0))
    assert len(pile) == MOST


LINKED = VisitBegan("v-1", NOON, link="https://bucket.example/face.jpg?X-Amz-Signature=0123")


def test_from_what_is_stored_there_is_a_link_to_the_picture_and_only_what_is_known() -> None:
    data = json.loads(write(HOOK, face(), LINKED, has_picture=False).body)["data"]
    assert data["url"] == LINKED.link
    assert not {"people", "quality", "picture"} & data.keys()
    ntfy = write(NTFY, face(), LINKED, has_picture=False)
    assert (ntfy.headers["Click"], ntfy.headers["Attach"]) == (LINKED.link, LINKED.link)
    shown = write(NTFY, face(), LINKED, has_picture=True)
    assert "Attach" not in shown.headers
    assert shown.headers["Click"] == LINKED.link
    assert str(LINKED.link) in json.loads(write(TELEGRAM, face(), LINKED, has_picture=False).body)["text"]
    assert "Signature" not in repr(LINKED)
