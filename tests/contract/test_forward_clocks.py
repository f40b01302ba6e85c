"""A real spool while the clock is set: `time.time` is all that forward knows of it."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from services.forward.spool.commands import Changes
from services.forward.spool.disk import DATABASE, Spool
from services.forward.spool.folder import prepare
from services.forward.spool.holdings import look
from tests.forward_rig import DEVICE, face

RESERVE_BYTES = 1024 * 1024
NOW_S = 1_900_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


def set_clock(monkeypatch: pytest.MonkeyPatch, wall_s: float) -> None:
    monkeypatch.setattr(time, "time", lambda: wall_s)


def age_s(spool: Spool) -> float:
    since_s = spool.state().oldest_since_s
    assert since_s is not None
    return time.monotonic() - since_s


def opened(folder: Path) -> Spool:
    return Spool(folder, RESERVE_BYTES, DEVICE)


@pytest.mark.parametrize(("before_s", "after_s"), [(5.0, NOW_S), (NOW_S, NOW_S - 3600), (NOW_S, 5.0)])
def test_a_clock_that_is_set_does_not_change_the_age_of_what_waits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, before_s: float, after_s: float
) -> None:
    began_s = time.monotonic()
    set_clock(monkeypatch, before_s)
    with closing(opened(folder)) as spool:
        spool.write(Changes([face(spool.next_sequence())]))
        set_clock(monkeypatch, after_s)
        spool.write(Changes([face(spool.next_sequence())]))
        assert 0 <= age_s(spool) <= time.monotonic() - began_s


def test_a_restart_remembers_ages_and_says_nothing_of_those_from_before_the_clock_was_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, 5.0)
    with closing(opened(folder)) as spool:
        first = face(spool.next_sequence())
        spool.write(Changes([first]))
        set_clock(monkeypatch, NOW_S - 7200)
        spool.write(Changes([face(spool.next_sequence())]))
    set_clock(monkeypatch, NOW_S)
    with closing(opened(folder)) as spool:
        assert age_s(spool) < 60
        spool.write(Changes(deletes=[first.id]))
        assert 7200 <= age_s(spool) < 7260
        set_clock(monkeypatch, NOW_S - 3600)
        assert 7200 <= age_s(spool) < 7260
    assert look(folder, NOW_S).oldest_s == 7200
    assert look(folder, 5.0).oldest_s is None


def test_a_damaged_time_is_none(folder: Path) -> None:
    with closing(opened(folder)) as spool:
        spool.write(Changes([face(spool.next_sequence())]))
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("UPDATE faces SET held_since = 'once upon a time'")
    with closing(opened(folder)) as spool:
        assert 0 <= age_s(spool) < 60
    assert look(folder, NOW_S).oldest_s is None


def test_quarantine_lets_go_of_the_oldest_though_the_clock_went_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(folder)) as spool:
        old, new = face(spool.next_sequence()), face(spool.next_sequence())
        spool.write(Changes([old, new]))
        set_clock(monkeypatch, NOW_S)
        spool.write(Changes(refused={old.id: "bad_time"}))
        set_clock(monkeypatch, 5.0)
        spool.write(Changes(refused={new.id: "bad_time"}))
        assert [each.id for each in look(folder, 5.0).refusals] == [new.id, old.id]
        assert spool.bound_quarantine(len(new.message.payload)) == [old.id]
