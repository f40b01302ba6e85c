import contextlib
from datetime import date
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common.errors import Refused
from services.common.retention import KEEP_FOREVER, Retention
from services.common.runtime import access
from services.common.runtime.access import SESSION_S, Guard, Sessions, is_loopback, is_own_name
from services.common.storage.objects import StoredObject
from services.common.wire.topics import Source
from services.gallery import chart
from services.gallery.details import describe
from services.gallery.presence import MAX_SOURCES, Presence, StatusChange
from services.gallery.selection import PageSelection
from services.gallery.settings import GallerySettings
from services.gallery.viewers import MAX_PENDING, Viewers
from tests.seeing import NOON, note
from tests.storing import jpeg

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True)
TIMES = st.datetimes().map(lambda time: f"{time:%Y%m%dT%H%M%S.%f}Z".zfill(23))
CURSORS = st.none() | TIMES | st.builds("{}-{:032x}".format, TIMES, st.integers(0, 16**32 - 1))
TOKEN = "sixteen letters!"  # noqa: S105 - of no door


@given(device=st.none() | NAMES, camera=NAMES, day=st.none() | st.dates(), before=CURSORS, after=CURSORS)
def test_a_selection_is_read_as_it_was_written(
    device: str | None, camera: str, day: date | None, before: str | None, after: str | None
) -> None:
    selection = PageSelection(device, camera if device else None, day, before, after)
    assert PageSelection.read(dict(parse_qsl(selection.query.removeprefix("?")))) == selection


@given(st.dictionaries(st.sampled_from(["source", "day", "before", "after"]), st.text()))
def test_an_address_is_read_or_refused(query: dict[str, str]) -> None:
    with contextlib.suppress(Refused):
        selection = PageSelection.read(query)
        assert PageSelection.read(dict(parse_qsl(selection.query.removeprefix("?")))) == selection


@given(st.text(), st.text())
def test_only_the_token_is_the_token(token: str, other: str) -> None:
    guard = Guard(token)
    assert guard.knows(token)
    assert guard.knows(other) == (token == other)


@given(st.floats(0, 4e9), st.text())
def test_a_session_is_good_for_a_month_and_for_its_own_door_alone(now_s: float, forged: str) -> None:
    sessions = Sessions(TOKEN)
    session = sessions.begin(now_s)
    assert sessions.admits(session, now_s)
    assert sessions.admits(session, now_s + SESSION_S - 1)
    assert not sessions.admits(session, now_s + SESSION_S + 1)
    assert not sessions.admits(f"9{session}", now_s)
    assert not sessions.admits(forged, now_s)
    assert not sessions.admits(f"{2**40}.{forged}", now_s)
    # After a restart nobody knows who has signed out.
    assert not Sessions(TOKEN).admits(session, now_s)


def test_a_session_that_has_signed_out_is_over_for_whoever_has_it_and_others_are_not() -> None:
    sessions = Sessions(TOKEN)
    stolen, others = sessions.begin(0), sessions.begin(0)
    sessions.end(stolen, 1)
    assert not sessions.admits(stolen, 2)
    assert sessions.admits(others, 2)
    sessions.end("nobody's", 2)
    assert sessions.admits(others, 2)


def test_those_that_have_signed_out_are_remembered_until_they_are_over_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access, "MOST_SIGNED_OUT", 3)
    sessions = Sessions(TOKEN)
    for now_s in range(10):
        sessions.end(sessions.begin(now_s * SESSION_S), now_s * SESSION_S)
    kept = sessions.begin(10 * SESSION_S)
    out = [sessions.begin(10 * SESSION_S) for _ in range(5)]
    for count, session in enumerate(out, start=1):
        sessions.end(session, 10 * SESSION_S)
        assert not any(sessions.admits(each, 10 * SESSION_S) for each in out[:count])
    assert not sessions.admits(kept, 10 * SESSION_S)  # too many to remember: all begin anew
    assert sessions.admits(sessions.begin(10 * SESSION_S), 10 * SESSION_S)


def test_loopback_is_told_from_the_rest() -> None:
    assert [host for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost") if not is_loopback(host)] == []
    assert [host for host in ("0.0.0.0", "::", "10.0.0.1", "box.local", "") if is_loopback(host)] == []  # noqa: S104
    assert is_own_name("127.0.0.1:80")
    assert not is_own_name("127.0.0.1.example")


def settings(**others: object) -> GallerySettings:
    needed = {"store_url": "file:///faces", "cloud_mqtt_url": "mqtt://broker"}
    return GallerySettings.model_validate({**needed, **others})


def test_beyond_this_machine_a_token_of_some_length_is_required() -> None:
    assert settings().gallery_token is None
    assert settings(gallery_host="0.0.0.0", gallery_token=TOKEN).gallery_token is not None  # noqa: S104
    with pytest.raises(ValidationError, match="FACEFERRY_GALLERY_TOKEN"):
        settings(gallery_host="0.0.0.0")  # noqa: S104
    with pytest.raises(ValidationError, match="less than 16"):
        settings(gallery_token="short")  # noqa: S106


def test_a_camera_whose_device_is_offline_is_in_an_unknown_state() -> None:
    presence = Presence()
    front = Source("porch", "front")
    assert note(presence, "faceferry/porch/front/status", b"online") == StatusChange(front, "online")
    assert presence.cameras == {front: "online"}
    note(presence, "faceferry/porch/forward/status", b"offline")
    assert presence.cameras == {front: "unknown"}
    note(presence, "faceferry/porch/forward/status", b"online")
    assert presence.cameras == {front: "online"}
    assert presence.device("porch") == "online"
    assert presence.devices == {"porch"}


def test_a_state_that_is_told_again_is_no_news_and_an_empty_one_is_the_end() -> None:
    presence = Presence()
    note(presence, "faceferry/porch/front/status", b"online")
    assert note(presence, "faceferry/porch/front/status", b"online") is None
    assert note(presence, "faceferry/porch/front/status", b"") == StatusChange(
        Source("porch", "front"), "unknown"
    )
    assert presence.cameras == {}


@given(st.text(max_size=60), st.binary(max_size=60))
def test_what_is_no_status_is_refused(topic: str, payload: bytes) -> None:
    presence = Presence()
    with pytest.raises(Refused):
        note(presence, f"{topic}/status", payload + b"?")
    assert presence.devices == set()


def test_devices_cannot_fill_the_memory() -> None:
    presence = Presence()
    for number in range(MAX_SOURCES):
        note(presence, f"faceferry/d{number}/c/status", b"online")
    with pytest.raises(Refused, match="too_many_cameras"):
        note(presence, "faceferry/one-more/c/status", b"online")
    assert note(presence, "faceferry/d0/c/status", b"stalled") is not None


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=24))
def test_bars_stand_in_their_slots_and_none_is_too_low_to_see(counts: list[int]) -> None:
    bars = chart.bars(counts, 5)
    assert [bar.count for bar in bars] == counts
    assert all(bar.y + bar.height == chart.HEIGHT for bar in bars)
    assert all((bar.height >= chart.LEAST) == (bar.count > 0) for bar in bars)
    assert bars[0].hour == 5
    if any(counts):
        assert max(bar.height for bar in bars) == chart.HEIGHT


def test_a_portrait_says_what_is_known_in_words() -> None:
    known = {"box": "10,20,30,40", "framesize": "640x480", "score": "0.9123", "detector": "yunet", "id": "x"}
    portrait = describe(StoredObject("k", jpeg(), "image/jpeg", known), NOON, KEEP_FOREVER)
    assert portrait.place is not None
    assert portrait.place.replace("\N{MULTIPLICATION SIGN}", "by") == (
        "30 by 40 px at 10, 20 in a frame of 640 by 480 px"
    )
    assert portrait.score == "91.2 %"
    assert portrait.others == {"detector": "yunet"}
    odd = StoredObject("k", b"", "image/jpeg", {"score": "high", "box": "?"})
    assert describe(odd, NOON, KEEP_FOREVER).score == "high"


def test_a_portrait_says_until_when_it_is_kept() -> None:
    face = StoredObject("k", jpeg(), "image/jpeg", {})
    assert describe(face, NOON, Retention(30)).kept == "until 2026-04-13 12:00 UTC, and a day longer at most"
    assert describe(face, NOON, KEEP_FOREVER).kept == "until it is deleted"
    unknown = StoredObject("k", jpeg(), "image/jpeg", {"clock": "unsynchronised"})
    assert describe(unknown, NOON, Retention(1)).kept.startswith("for 1 day from when it came")


async def test_a_slow_page_loses_the_oldest_news() -> None:
    viewers = Viewers(2)
    with viewers.joined() as untold:
        for number in range(MAX_PENDING + 3):
            viewers.tell(str(number))
        assert untold.qsize() == MAX_PENDING
        assert untold.get_nowait() == "3"
        viewers.dismiss()
    assert len(viewers) == 0
