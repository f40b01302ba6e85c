"""Trouble with a store as time passes; each step of `Faults` is a quarter of a second."""

import random
from collections.abc import Callable

import pytest

from services.common.storage.objects import ROOM_BYTES, StoreUnavailable
from services.store.outages import OutageDetector

STEP_S = 0.25
FACE_BYTES = 20_000

Reason = str | None


class Store:
    """A store with a clock of its own: checks, and writes of faces, meet what is wrong at that moment.

    Args:
        check: says what a check meets, given the room that it asks for.
        write: says what the write of a face meets.
        every_s: how often it is looked at when nothing else is known.
    """

    def __init__(
        self, check: Callable[[int], Reason], write: Callable[[], Reason] = lambda: None, every_s: float = 2.0
    ) -> None:
        self.outages = OutageDetector()
        self.now_s = 1_000.0
        self.checks = 0
        self.shown: list[Reason] = [None]
        self._check, self._write, self._every_s = check, write, every_s
        self._waiting: list[str] = []
        self._sent = 0

    def run(self, seconds: float, *, faces: bool = False) -> None:
        for _ in range(int(seconds / STEP_S)):
            self.now_s += STEP_S
            if faces:
                self._waiting.append(str(self._sent))
                self._sent += 1
            self._waiting = [face for face in self._waiting if not self._is_written(face)]
            self._look()
            why = self.outages.error(self.now_s)
            reason = why.reason if why is not None else None
            if reason != self.shown[-1]:
                self.shown.append(reason)

    def _look(self) -> None:
        if not self.outages.is_check_due(self.now_s, self._every_s):
            return
        self.checks += 1
        self.outages.check_started(self.now_s)
        reason = self._check(self.outages.room_bytes)
        if reason is None:
            self.outages.check_worked(self.now_s)
        else:
            self.outages.check_failed(StoreUnavailable(reason), self.now_s)

    def _is_written(self, face: str) -> bool:
        self.outages.write_started(face, self.now_s)
        reason = self._write()
        if reason is None:
            self.outages.write_worked(face, self.now_s, is_new=True)
        else:
            self.outages.write_failed(face, FACE_BYTES, StoreUnavailable(reason), self.now_s)
        return reason is None


class Fault:
    """What is wrong just now, for checks and writes alike."""

    def __init__(self) -> None:
        self.reason: Reason = None

    def __call__(self, _room_bytes: int = 0) -> Reason:
        return self.reason


@pytest.mark.parametrize("faces", [False, True])
@pytest.mark.parametrize("reason", ["read_only", "not_mounted", "full", "unreachable", "forbidden"])
def test_a_fault_is_one_change_there_and_one_back_each_within_five_seconds(
    reason: str, *, faces: bool
) -> None:
    fault = Fault()
    store = Store(fault, fault)
    store.run(20, faces=faces)
    for _ in range(3):
        fault.reason = reason
        store.run(5, faces=faces)
        assert store.shown == [None, reason]
        store.run(60, faces=faces)
        fault.reason = None
        store.run(5, faces=faces)
        assert store.shown == [None, reason, None]
        store.run(30, faces=faces)
        assert store.shown == [None, reason, None]
        store.shown = [None]


def test_reasons_that_alternate_are_one_outage() -> None:
    reasons = random.Random(1)
    fault = lambda _room=0: reasons.choice(["timeout", "unreachable", "throttled", "full"])  # noqa: E731
    store = Store(fault, fault)
    store.run(60, faces=True)
    assert store.shown.count(None) == 1


def test_full_is_not_forgotten_over_another_reason() -> None:
    outages = OutageDetector()
    outages.write_failed("large", FACE_BYTES, StoreUnavailable("full"), 1.0)
    outages.check_started(2.0)
    outages.check_failed(StoreUnavailable("unreachable"), 2.0)
    for now_s in (3.0, 4.0, 5.0):
        outages.write_worked(f"small {now_s}", now_s, is_new=True)
    assert outages.error(5.0) is not None


def test_copies_that_need_no_room_do_not_end_full() -> None:
    store = Store(lambda room: "full" if room > ROOM_BYTES else None)
    store.outages.write_failed("new", FACE_BYTES, StoreUnavailable("full"), store.now_s)
    for _ in range(100):
        store.run(STEP_S)
        store.outages.write_worked("copy", store.now_s, is_new=False)
    assert store.shown == [None, "full"]


def test_small_faces_that_still_fit_do_not_end_full() -> None:
    free_bytes = 100_000
    sizes = random.Random(2)

    def write() -> Reason:
        return "full" if sizes.randrange(200_000) > free_bytes else None

    store = Store(lambda room: "full" if room > free_bytes else None, write)
    store.run(60, faces=True)
    assert store.shown == [None, "full"]


def test_full_lasts_while_faces_find_no_room_where_the_check_finds_some() -> None:
    store = Store(lambda _room: None, lambda: "full")  # a quota on the folder of a day
    store.run(60, faces=True)
    assert store.shown == [None, "full"]


def test_room_after_full_is_room_for_the_largest_face_that_found_none() -> None:
    outages = OutageDetector()
    outages.write_failed("large", 4_000_000, StoreUnavailable("full"), 1.0)
    outages.write_failed("small", 4_000, StoreUnavailable("full"), 1.0)
    assert outages.room_bytes == 8_000_000
    for now_s in (2.0, 3.0):
        outages.check_started(now_s)
        outages.check_worked(now_s)
    assert outages.error(3.0) is None
    assert outages.room_bytes == ROOM_BYTES


def test_a_write_that_fails_once_is_no_trouble() -> None:
    fate = random.Random(3)
    store = Store(lambda _room: None, lambda: "conflict" if fate.random() < 0.3 else None)
    store.run(120, faces=True)
    assert store.shown == [None]


def test_a_face_that_alone_cannot_be_written_is_trouble_until_it_is() -> None:
    store = Store(lambda _room: None)
    outages, error = store.outages, StoreUnavailable("forbidden", "dt=2026-01-31")
    outages.write_failed("stuck", FACE_BYTES, error, store.now_s)
    store.run(5, faces=True)
    assert store.shown == [None, "forbidden"]
    for _ in range(30):
        store.run(1, faces=True)
        outages.write_failed("stuck", FACE_BYTES, error, store.now_s)
    assert store.shown == [None, "forbidden"]
    outages.write_worked("stuck", store.now_s, is_new=True)
    store.run(5, faces=True)
    assert store.shown == [None, "forbidden", None]


def test_a_check_that_fails_while_faces_are_stored_is_not_believed_at_once() -> None:
    outages = OutageDetector()
    outages.check_started(10.0)
    outages.write_worked("face", 11.0, is_new=True)
    outages.check_failed(StoreUnavailable("timeout"), 12.5)
    assert outages.error(12.5) is None
    assert outages.is_check_due(14.5, 300.0)


def test_a_check_from_before_the_trouble_does_not_end_it() -> None:
    outages = OutageDetector()
    outages.check_started(10.0)
    outages.write_failed("face", FACE_BYTES, StoreUnavailable("full"), 10.1)
    outages.check_worked(10.2)
    outages.check_started(11.0)
    outages.check_worked(11.0)
    assert outages.error(11.0) is not None


def test_a_store_that_costs_money_is_asked_seldom_unless_something_is_wrong() -> None:
    fault = Fault()
    store = Store(fault, fault, every_s=300.0)
    store.run(3_600)
    assert 12 <= store.checks <= 13
    before = store.checks
    store.run(3_600, faces=True)  # faces tell as much, and cost nothing more
    assert store.checks - before <= 1
    fault.reason = "unreachable"
    store.run(5, faces=True)
    assert store.shown == [None, "unreachable"]
    before = store.checks
    store.run(3_600)
    assert store.checks - before < 1_300


def test_a_write_without_an_answer_asks_for_a_check_that_does_not_wait_long() -> None:
    outages = OutageDetector()
    outages.check_started(8.0)
    outages.check_worked(8.0)
    outages.write_started("face", 10.0)
    assert not outages.is_check_due(11.0, 300.0)
    assert outages.check_limit_s(11.0) is None
    assert outages.is_check_due(11.5, 300.0)
    limit_s = outages.check_limit_s(11.5)
    assert limit_s is not None
    assert limit_s <= 3.0
