"""The gallery's cores: what a sieve takes, why one is not online, the steps to a first face, an archive."""

import contextlib
import io
import subprocess
import zipfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.storage.visit_lookup import Known
from services.common.storage.visits import Part
from services.common.wire.message import Message
from services.common.wire.status import reason_attributes, reason_in
from services.common.wire.topics import Source
from services.gallery.archive import Archive
from services.gallery.day import rows_of
from services.gallery.presence import Presence
from services.gallery.selection import QUALITIES, SIZES, FaceFilter, PageSelection
from services.gallery.setup_steps import setup_steps
from tests.seeing import NOON, note, visit_id

PART = Part(visit_id(NOON), 1, 0.5)
FRONT = Source("porch", "front")


@pytest.mark.parametrize(
    ("query", "known", "passes"),
    [
        ({}, Known(None), True),
        ({"px": "80"}, Known(PART, 80), True),
        ({"px": "80"}, Known(PART, 79), False),
        ({"px": "80"}, Known(PART), False),
        ({"quality": "0.5"}, Known(PART, 10), True),
        ({"quality": "0.501"}, Known(PART, 10), False),
        ({"quality": "0.2"}, Known(None, 500), False),
        ({"px": "80", "quality": "0.5"}, Known(PART, 80), True),
        ({"px": "81", "quality": "0.5"}, Known(PART, 80), False),
    ],
)
def test_a_sieve_takes_what_is_known_to_be_large_and_good_enough(
    query: dict[str, str], known: Known, passes: bool
) -> None:
    assert FaceFilter.read(query).takes(known) == passes
    assert FaceFilter.read(query).is_open == (not query)


@given(st.integers(0, 99_999), st.sampled_from([0.0, 0.2, 0.25, 0.999, 1.0]))
def test_a_sieve_is_read_as_it_was_written_and_goes_along_in_addresses(px: int, quality: float) -> None:
    selection = PageSelection(day=NOON.date(), face_filter=FaceFilter(px, quality))
    for address in (selection, selection.at(NOON.date(), before="20260314T120000.000000Z")):
        assert PageSelection.read(dict(parse_qsl(address.query.removeprefix("?")))) == address
    assert dict(parse_qsl(selection.filter_query)) == {
        k: v for k, v in selection.face_filter.parts.items() if v
    }


@given(st.dictionaries(st.sampled_from(["px", "quality"]), st.text()))
def test_a_sieve_is_refused_or_read(query: dict[str, str]) -> None:
    with contextlib.suppress(Refused):
        assert FaceFilter.read(FaceFilter.read(query).parts) == FaceFilter.read(query)


def test_what_pages_offer_can_be_read() -> None:
    for px, quality in zip(SIZES, QUALITIES, strict=True):
        assert FaceFilter.read({"px": px, "quality": quality}).parts == {"px": px, "quality": quality}


@pytest.mark.parametrize("text", ["", "Stalled", "two words", "<b>", "a" * 33, "é", "x\n"])
def test_a_reason_is_a_word_or_none(text: str) -> None:
    assert reason_in(Message(topic="t", payload=b"", attributes=(("why", text),))) is None
    assert reason_in(Message(topic="t", payload=b"", attributes=reason_attributes("stalled"))) == "stalled"
    assert reason_attributes(None) == ()


def say(presence: Presence, topic: str, state: bytes, reason: str | None) -> None:
    message = Message(topic=f"faceferry/{topic}/status", payload=state, attributes=reason_attributes(reason))
    presence.note(message, NOON, 0.0)


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (b"online", None, ""),
        (b"offline", "unavailable", "It cannot be opened."),
        (b"offline", "exited", "Its program ended"),
        (b"stalled", "stalled", "Its pictures stopped."),
        (b"offline", "stopped", "capture is not running."),
        (b"offline", "invented", "It did not say why."),
        (b"offline", None, "It did not say why."),
    ],
)
def test_a_camera_that_is_not_online_says_why(state: bytes, reason: str | None, said: str) -> None:
    presence = Presence()
    say(presence, "porch/front", state, reason)
    assert presence.reason(FRONT).startswith(said)
    assert bool(presence.reason(FRONT)) == bool(said)


def test_a_device_that_said_goodbye_is_told_from_one_that_fell_silent() -> None:
    presence = Presence()
    link = Source("porch", "forward")
    assert presence.reason(link).startswith("Nothing was heard")
    every = Message(
        topic="faceferry/porch/forward/status",
        payload=b"online",
        attributes=(("order", "2026-03-14T11:00:00.000000Z/0"), ("every", "10")),
    )
    presence.note(every, NOON, 0.0)
    say(presence, "porch/front", b"online", None)
    assert presence.reason(link) == ""
    presence.lapse(26.0)
    assert presence.reason(link).startswith("It fell silent")
    assert presence.reason(FRONT) == "Its device cannot be heard."
    note(presence, "faceferry/lobby/forward/status", b"offline")
    assert presence.reason(Source("lobby", "forward")).startswith("Its connection ended")
    assert presence.reason(Source("attic", "desk")).startswith("Nothing was heard")


def test_the_steps_to_a_first_face_say_how_far_they_are_and_what_to_type() -> None:
    presence = Presence()
    assert [step.is_done for step in setup_steps(presence)] == [False, False, False]
    assert [step.command for step in setup_steps(presence)] == [
        "faceferry pki device NAME",
        "faceferry cameras",
        "",
    ]
    note(presence, "faceferry/porch/forward/status", b"offline")
    assert setup_steps(presence)[0].command == "faceferry doctor"
    note(presence, "faceferry/porch/forward/status", b"online")
    assert setup_steps(presence)[0].hint == "porch is here."
    say(presence, "porch/front", b"offline", "unavailable")
    assert "porch/front: It cannot be opened." in setup_steps(presence)[1].hint
    for number in range(5):
        note(presence, f"faceferry/porch/c{number}/status", b"online")
    assert [step.is_done for step in setup_steps(presence)] == [True, True, False]
    assert setup_steps(presence)[1].hint == "porch/c0, porch/c1, porch/c2 and 2 more are online."


def test_an_archive_comes_piece_by_piece_and_is_one_that_everybody_reads(tmp_path: Path) -> None:
    archive = Archive()
    pieces = [archive.add(f"a/{number}.jpg", bytes([number]) * 1_000, NOON) for number in range(3)]
    pieces.append(archive.add("old.txt", b"old", NOON - timedelta(days=365 * 60)))
    assert all(len(piece) < 1_200 for piece in pieces)
    whole = b"".join(pieces) + archive.end()
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "old.txt"]
        assert found.read("a/2.jpg") == b"\2" * 1_000
        assert found.getinfo("a/0.jpg").date_time == (2026, 3, 14, 12, 0, 0)
        assert all(not each.flag_bits & 8 for each in found.infolist())  # sizes stand before the content
    path = tmp_path / "some.zip"
    path.write_bytes(whole)
    subprocess.run(["python3", "-m", "zipfile", "-t", str(path)], check=True, timeout=30, capture_output=True)


def test_a_map_has_a_mark_for_each_quarter_with_faces_that_leads_to_them() -> None:
    counts: dict[Source, list[int] | None] = {FRONT: [0] * 96, Source("porch", "yard"): None}
    found = counts[FRONT]
    assert found is not None
    found[0], found[50], found[95] = 1, 100, 25
    front, yard = rows_of(PageSelection(face_filter=FaceFilter(80)), NOON.date(), counts)
    assert front.total == 126
    assert yard.marks is None
    assert front.marks is not None
    assert [(mark.clock, mark.count) for mark in front.marks] == [("00:00", 1), ("12:30", 100), ("23:45", 25)]
    assert [mark.strength for mark in front.marks] == [0.37, 1.0, 0.65]
    leads = [PageSelection.read(dict(parse_qsl(mark.address[2:]))) for mark in front.marks]
    assert {lead.source for lead in leads} == {"porch/front"}
    assert {lead.face_filter for lead in leads} == {FaceFilter(80)}
    assert [lead.before for lead in leads] == ["20260314T001500.000000Z", "20260314T124500.000000Z", None]
