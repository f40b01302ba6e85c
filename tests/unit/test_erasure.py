"""What is ordered, what an order takes, and that a log shows each byte that is another."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.erasure import entries, keys
from services.common.erasure.entries import BrokenLog, EntryKind, LogEntry
from services.common.erasure.selection import ErasedFaces, Selection, check, from_body, to_body
from services.common.errors import Refused
from services.common.wire import faces
from services.common.wire.topics import Source

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FRONT, YARD = Source("porch", "front"), Source("porch", "yard")
VISIT = "20261130T100000.000000Z-0123456789abcdef"
PRIVATE = keys.make()
PUBLIC = keys.public_of(PRIVATE.decode())
SIGN, VERIFY = keys.signer(PRIVATE.decode())


def face_id(at: datetime, source: Source = FRONT, image: bytes = b"x") -> str:
    return faces.mint_id(source, at, image)


def log(*abouts: tuple[EntryKind, dict[str, object]]) -> list[LogEntry]:
    found: list[LogEntry] = []
    for kind, about in abouts:
        found.append(entries.write(found[-1] if found else None, NOW, kind, about, SIGN))
    return found


LOG = log(
    (EntryKind.ORDERED, to_body(Selection(ids=frozenset({face_id(NOW)}), device="porch"))),
    (EntryKind.FOUND, {"of": "x", "faces": 1}),
    (EntryKind.ERASED, {"of": "x", "faces": 1, "left": 0}),
)


def test_a_range_takes_what_was_taken_within_it_from_its_first_moment_to_before_its_last() -> None:
    chosen = Selection(device="porch", camera="front", since=NOW - timedelta(hours=1), until=NOW)
    second = timedelta(microseconds=1)
    within = [NOW - timedelta(hours=1), NOW - second]
    outside = [NOW - timedelta(hours=1) - second, NOW]
    assert all(chosen.takes(FRONT, face_id(at), None) for at in within)
    assert not any(chosen.takes(FRONT, face_id(at), None) for at in outside)
    assert not chosen.takes(YARD, face_id(within[0]), None)
    assert not chosen.takes(Source("lobby", "front"), face_id(within[0]), None)


def test_ids_and_a_visit_take_what_they_name_and_nothing_else() -> None:
    chosen = Selection(ids=frozenset({face_id(NOW)}), visit=VISIT, device="porch")
    assert chosen.takes(FRONT, face_id(NOW), None)
    assert chosen.takes(YARD, face_id(NOW, image=b"y"), VISIT)
    assert not chosen.takes(FRONT, face_id(NOW, image=b"y"), None)
    assert not chosen.takes(Source("lobby", "front"), face_id(NOW), VISIT)


_TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_NAMES = st.none() | st.sampled_from(["porch", "lobby", "front"])
_SELECTIONS = st.builds(
    Selection,
    ids=st.frozensets(_TIMES.map(face_id), max_size=3),
    visit=st.none() | st.just(VISIT),
    device=_NAMES,
    camera=_NAMES,
    since=st.none() | _TIMES,
    until=st.none() | _TIMES,
)


@given(st.lists(_SELECTIONS, max_size=6), st.sampled_from([FRONT, YARD]), _TIMES, st.none() | st.just(VISIT))
def test_what_is_kept_out_is_what_any_of_the_orders_takes(
    selections: list[Selection], source: Source, at: datetime, visit: str | None
) -> None:
    erased_faces = ErasedFaces()
    erased_faces.add(selections)
    face = face_id(at)
    assert erased_faces.takes(source, face, visit) == any(
        each.takes(source, face, visit) for each in selections
    )


@given(_SELECTIONS)
def test_an_order_reads_as_it_was_written_or_cannot_be_given(selection: Selection) -> None:
    try:
        check(selection, NOW)
    except Refused:
        with pytest.raises(Refused):
            from_body(to_body(selection), NOW)
    else:
        assert from_body(to_body(selection), NOW) == selection


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"device": "porch"},
        {"device": "porch", "to": "2026-11-30T12:00:00.000001Z"},
        {"from": "2026-11-30T12:00:00.000000Z", "to": "2026-11-30T11:00:00.000000Z"},
        {"ids": [face_id(NOW)], "to": "2026-11-30T11:00:00.000000Z"},
        {"ids": ["../x"]},
        {"ids": [face_id(NOW)] * 1_001},
        {"visit": "x"},
        {"device": "_store", "to": "2026-11-30T11:00:00.000000Z"},
        {"device": "porch", "to": "2026-11-30T11:00:00.000000Z", "also": 1},
        [],
    ],
)
def test_an_order_that_makes_no_sense_or_reaches_into_the_future_is_refused(body: object) -> None:
    with pytest.raises(Refused):
        from_body(body, NOW)


def test_a_log_reads_as_it_was_written() -> None:
    assert entries.check_log([entry.line for entry in LOG], VERIFY) == LOG
    assert LOG[0].selection.ids == {face_id(NOW)}
    assert [entry.number for entry in LOG] == [1, 2, 3]


@pytest.mark.parametrize("number", range(3))
def test_one_changed_byte_is_found_whichever_it_is(number: int) -> None:
    lines = [entry.line for entry in LOG]
    for place in range(len(lines[number])):
        for other in (lines[number][place] ^ 1, ord(" "), ord("0")):
            changed = bytearray(lines[number])
            if changed[place] == other:
                continue
            changed[place] = other
            with pytest.raises(BrokenLog) as told:
                entries.check_log([*lines[:number], bytes(changed), *lines[number + 1 :]], VERIFY)
            assert told.value.number == number + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [*lines, b""],
        lambda lines: [lines[0] + b"\n", *lines[1:]],
    ],
)
def test_a_line_that_is_missing_added_or_moved_is_found(change: Any) -> None:
    with pytest.raises(BrokenLog):
        entries.check_log(change([entry.line for entry in LOG]), VERIFY)


def test_another_key_s_lines_are_nobody_s() -> None:
    _, other = keys.signer(keys.make().decode())
    with pytest.raises(Refused, match="bad_signature"):
        entries.read(LOG[0].line, other)
    assert entries.read(LOG[0].line, keys.verifier(PUBLIC.decode())) == LOG[0]


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(str).map(str.encode)
)
def test_whatever_comes_is_read_or_refused(line: bytes) -> None:
    with pytest.raises(Refused):
        entries.read(line, VERIFY)


def test_an_order_is_open_until_it_is_said_that_nothing_is_left() -> None:
    order = LOG[0]
    left = entries.write(order, NOW, EntryKind.ERASED, {"of": order.name, "left": 1}, SIGN)
    done = entries.write(left, NOW, EntryKind.ERASED, {"of": order.name, "left": 0}, SIGN)
    assert entries.unfinished([order]) == [order]
    assert entries.unfinished([order, left]) == [order]
    assert entries.unfinished([order, left, done]) == []


@pytest.mark.parametrize("text", ["", "x", PUBLIC.decode()])
def test_what_is_no_private_key_is_said_without_its_content(text: str) -> None:
    with pytest.raises(ValueError, match=r"erase\.key") as told:
        keys.signer(text)
    assert not text or text not in str(told.value)


def test_what_is_no_public_key_is_said() -> None:
    with pytest.raises(ValueError, match=r"erase\.pub"):
        keys.verifier(PRIVATE.decode())
