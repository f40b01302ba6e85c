import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.wire.message import Message
from services.forward.congestion import FEW, FIRST_PATIENCE_S, CongestionWindow
from services.forward.outbox import (
    FRESH_MAX_BYTES,
    MOST_PROBE_S,
    MOST_RESEND_S,
    FaceToSend,
    Outbox,
)
from services.forward.spool.commands import BacklogPart, BacklogRead
from services.forward.spool.face import LATER, SpooledFace


def face(sequence: int, size_bytes: int = 1_000, topic: str = "t", *, is_later: bool = False) -> SpooledFace:
    attributes = (("visit", "v"), LATER) if is_later else (("visit", "v"), ("why", "changed"))
    message = Message(topic=topic, payload=bytes(size_bytes), attributes=attributes)
    return SpooledFace(sequence, f"face-{sequence}", message)


def later(sequence: int, size_bytes: int = 1_000, topic: str = "t") -> SpooledFace:
    return face(sequence, size_bytes, topic, is_later=True)


def outbox(*, window_bytes: int = 1_000_000, last_sequence: int = 0, is_up: bool = True) -> Outbox:
    made = Outbox(CongestionWindow(window_bytes // 2, window_bytes), 2.0, last_sequence)
    if is_up:
        made.link_up()
        made.settle("before", 0.0)  # a store is there
    return made


def sent(box: Outbox, now_s: float = 0.0) -> list[str]:
    found = []
    while (sending := box.next(now_s)) is not None:
        found.append(sending.face.id)
    return found


def is_first(one: SpooledFace) -> bool:
    return not one.is_later


def part(
    read: BacklogRead,
    faces: Iterable[SpooledFace],
    most: int = 1_000,
    indexed: Callable[[SpooledFace], bool] = is_first,
) -> BacklogPart:
    """What a spool with these faces answers, so many at a time; `indexed` are those it takes for firsts."""
    found = [
        each
        for each in faces
        if read.after < each.sequence <= read.until and (not read.only_firsts or indexed(each))
    ]
    return BacklogPart(found[:most], found[most - 1].sequence if len(found) >= most else read.until)


def feed(box: Outbox, faces: Iterable[SpooledFace]) -> None:
    """Let it read what it wants to."""
    found = list(faces)
    read = box.wants_backlog()
    assert read is not None
    while read is not None:
        box.backlog(read, part(read, found))
        read = box.wants_backlog()


def test_nothing_is_sent_while_the_link_is_down() -> None:
    box = outbox(is_up=False)
    box.offer(face(1))
    assert sent(box) == []
    assert box.wants_backlog() is None


def test_what_came_while_the_link_was_down_is_read_back_in_order() -> None:
    box = outbox(is_up=False, last_sequence=2)
    box.offer(face(3))
    box.link_up()
    feed(box, map(face, [1, 2, 3]))
    assert sent(box) == ["face-1", "face-2", "face-3"]
    assert box.wants_backlog() is None


def test_of_the_backlog_everybodys_first_picture_goes_before_anybodys_second() -> None:
    box = outbox(last_sequence=6)
    feed(box, [face(1), later(2), later(3), face(4), later(5), face(6)])
    assert sent(box) == [f"face-{number}" for number in (1, 4, 6, 2, 3, 5)]


def test_of_the_new_ones_too_but_those_before_the_backlog() -> None:
    box = outbox(last_sequence=2)
    feed(box, [later(1), face(2)])
    for each in (later(3), face(4), later(5), face(6)):
        box.offer(each)
    assert sent(box) == [f"face-{number}" for number in (4, 6, 3, 5, 2, 1)]


def test_a_first_picture_that_comes_too_fast_for_memory_overtakes_later_ones_that_were_read() -> None:
    box = outbox(window_bytes=200_000, last_sequence=20)
    feed(box, [later(number, 99_488) for number in range(1, 21)])
    under_way = sent(box)
    too_many = [face(number, 999_488) for number in range(21, 27)]
    for each in too_many:
        box.offer(each)
    feed(box, too_many)
    order: list[str] = []
    while under_way:
        box.settle(under_way.pop(0), 0.1)
        under_way += (gone := sent(box, 0.1))
        order += gone
    assert order[:6] == [each.id for each in too_many]
    assert len(order) == 6 + 20 - 2


def test_later_pictures_make_way_in_memory_for_a_new_first_one() -> None:
    """On a link that is slower than what comes, memory is full all day."""
    box = outbox(window_bytes=200_000)
    disk = {number: later(number, 499_488) for number in range(1, 21)}
    for each in disk.values():
        box.offer(each)
    order = sent(box)
    disk[21] = face(21, 1_999_488)
    box.offer(disk[21])
    for _ in range(100):
        while (read := box.wants_backlog()) is not None:
            box.backlog(read, part(read, [disk[number] for number in sorted(disk)], most=4))
        for face_id in order:
            box.settle(face_id, 0.1)
            disk.pop(int(face_id.removeprefix("face-")), None)
        order += sent(box, 0.1)
    assert order[2] == "face-21"
    assert sorted(order) == sorted(f"face-{number}" for number in range(1, 22))


@settings(max_examples=200)
@given(
    laters=st.lists(st.booleans(), min_size=1, max_size=60),
    most=st.integers(1, 20),
    lies=st.sets(st.integers(1, 60)),
    window_faces=st.integers(2, 20),
)
def test_each_of_the_backlog_goes_once_whatever_the_spool_takes_for_first_pictures(
    laters: list[bool], most: int, lies: set[int], window_faces: int
) -> None:
    disk = {n: face(n, 99_488, is_later=is_later) for n, is_later in enumerate(laters, 1)}
    faces = list(disk.values())
    box = outbox(window_bytes=window_faces * 100_000, last_sequence=len(faces))
    order: list[SpooledFace] = []
    for _ in range(1_000):
        if (read := box.wants_backlog()) is not None:
            indexed = lambda one: one.sequence not in lies and not one.is_later  # noqa: E731
            box.backlog(read, part(read, list(disk.values()), most, indexed))
        elif not disk:
            break
        while (sending := box.next(0.0)) is not None:
            order.append(sending.face)
            box.settle(sending.face.id, 0.0)
            del disk[sending.face.sequence]
    assert sorted(order, key=lambda each: each.sequence) == faces
    if not lies:
        assert order == sorted(faces, key=lambda each: (each.is_later, each.sequence))


def test_a_new_face_overtakes_the_backlog() -> None:
    box = outbox(last_sequence=2)
    feed(box, map(face, [1, 2]))
    box.offer(face(3))
    assert sent(box) == ["face-3", "face-1", "face-2"]


def test_old_faces_leave_a_quarter_of_the_window_to_new_ones() -> None:
    box = outbox(window_bytes=100_000, last_sequence=200)
    feed(box, [face(sequence, 9_488) for sequence in range(1, 201)])  # 10,000 bytes each
    assert len(sent(box)) == 8
    box.offer(face(201, 9_488))
    box.offer(face(202, 9_488))
    assert sent(box) == ["face-201", "face-202"]


def test_a_full_window_waits_for_receipts() -> None:
    box = outbox(window_bytes=100_000)
    for sequence in range(1, 20):
        box.offer(face(sequence, 9_488))
    under_way = sent(box)
    assert len(under_way) == 10
    for face_id in under_way:
        box.settle(face_id, 0.1)
    assert sent(box, 0.1) == [f"face-{sequence}" for sequence in range(11, 20)]


def test_a_face_without_receipt_is_sent_again_ever_more_seldom() -> None:
    box = outbox()
    box.offer(face(1))
    now_s, waits = 0.0, []
    assert sent(box) == ["face-1"]
    for _ in range(6):
        box.broker_has("face-1", now_s)
        due_s = box.next_due_s()
        waits.append(due_s - now_s)
        assert sent(box, due_s - 0.01) == []
        now_s = due_s
        assert sent(box, now_s) == ["face-1"]
    assert waits == [2, 4, 8, 16, 32, MOST_PROBE_S]


def test_a_face_that_nobody_heard_is_sent_again_soon_and_then_as_any() -> None:
    box = outbox()
    box.offer(face(1))
    now_s, waits = 0.0, []
    assert sent(box) == ["face-1"]
    for _ in range(3):
        box.broker_has("face-1", now_s, is_unheard=True)
        due_s = box.next_due_s()
        waits.append(due_s - now_s)
        now_s = due_s
        assert sent(box, now_s) == ["face-1"]
    assert waits == [0.5, 2, 8]


def test_a_face_that_alone_has_no_receipt_is_sent_again_every_ten_seconds_at_most() -> None:
    box = outbox()
    box.offer(face(1))
    now_s, waits = 0.0, []
    assert sent(box) == ["face-1"]
    for number in range(2, 8):
        box.broker_has("face-1", now_s)
        due_s = box.next_due_s()
        waits.append(due_s - now_s)
        box.offer(face(number))
        assert sent(box, now_s + 0.1) == [f"face-{number}"]
        box.settle(f"face-{number}", now_s + 0.2)
        now_s = due_s
        assert sent(box, now_s) == ["face-1"]
    assert waits == [2, 4, 8, MOST_RESEND_S, MOST_RESEND_S, MOST_RESEND_S]


def test_over_a_new_connection_few_go_before_one_is_receipted() -> None:
    """Nobody may listen there, and all that is sent is sent again."""
    box = outbox()
    box.link_down()
    box.link_up()
    for number in range(1, 101):
        box.offer(face(number))
    assert sent(box) == [f"face-{number}" for number in range(1, FEW + 1)]
    assert box.next_due_s() == FIRST_PATIENCE_S
    assert len(sent(box, FIRST_PATIENCE_S)) == 1
    box.settle("face-1", 1.1)
    assert len(sent(box, 1.1)) == 100 - FEW - 1


def test_a_silent_store_is_sent_one_face_at_a_time_with_growing_waits() -> None:
    """A window of 16 MiB every ten seconds is more than a hundred gigabytes a day."""
    box = outbox(window_bytes=1_000_000)
    for number in range(1, 101):
        box.offer(face(number))
    for face_id in sent(box):
        box.broker_has(face_id, 0.0)
    box.offer(face(101))
    assert sent(box) == ["face-101"]
    box.broker_has("face-101", 0.0)
    day: list[str] = []
    for now_s in range(1, 86_400):
        for face_id in sent(box, now_s):
            box.broker_has(face_id, now_s)
            day.append(face_id)
    assert box.is_store_silent
    assert len(day) < 1_500
    assert len(set(day[:100])) > 50  # one bad face must not be all that it is shown


def test_new_faces_wait_while_the_store_is_silent_and_go_when_it_is_heard() -> None:
    box = outbox()
    box.offer(face(1))
    assert sent(box) == ["face-1"]
    box.broker_has("face-1", 0.0)
    assert sent(box, 2.0) == ["face-1"]
    box.offer(face(2))
    assert sent(box, 2.1) == []
    box.settle("face-1", 2.2)
    assert sent(box, 2.2) == ["face-2"]


def test_a_silent_store_is_asked_with_one_face_over_a_new_connection_too() -> None:
    box = outbox(last_sequence=0)
    for number in range(1, 11):
        box.offer(face(number))
    for face_id in sent(box):
        box.broker_has(face_id, 0.0)
    assert len(sent(box, 2.0)) == 1
    box.link_down()
    box.link_up()
    feed(box, map(face, range(1, 11)))
    assert len(sent(box, 10.0)) == 1
    assert sent(box, 10.1) == []
    box.settle("face-1", 10.2)
    assert len(sent(box, 10.2)) == 9


def test_what_is_under_way_has_time_for_an_answer_when_a_silent_store_is_heard() -> None:
    box = outbox()
    for number in (1, 2, 3):
        box.offer(face(number))
    for face_id in sent(box):
        box.broker_has(face_id, 0.0)
    assert sent(box, 5.0) == ["face-1"]
    box.broker_has("face-1", 5.0)
    box.settle("face-1", 6.0)
    assert sent(box, 6.0) == []
    assert sent(box, 8.0) == ["face-2", "face-3"]


def test_what_waits_in_the_store_behind_what_is_receipted_now_is_not_sent_again() -> None:
    """Its bucket is back after three seconds, and it stores one after the other."""
    box = outbox()
    for number in range(100):
        box.offer(face(number))
    for at, face_id in enumerate(under_way := sent(box)):
        box.broker_has(face_id, at / 1_000)
    again = sent(box, 2.2)
    assert len(again) == 1, "a probe"
    box.broker_has(again[0], 2.2)
    for at, face_id in enumerate(under_way):
        now_s = 4.0 + at / 90
        box.settle(face_id, now_s)
        again += sent(box, now_s)
    assert len(again) == 1


def test_what_was_overtaken_by_others_is_sent_again_while_receipts_come() -> None:
    box = outbox()
    for numbers, at_s in ((range(5), 0.0), (range(5, 10), 1.9)):
        for number in numbers:
            box.offer(face(number))
        box.settle("before", at_s)
        for face_id in sent(box, at_s):
            box.broker_has(face_id, at_s)
    for number in range(5, 10):
        box.settle(f"face-{number}", 1.95)
    again = sent(box, 2.01)
    assert again == [f"face-{number}" for number in range(4)], "a few at a time"
    box.settle("face-0", 2.02)
    assert sent(box, 2.02) == ["face-4"]


def test_a_withdrawn_face_makes_room_and_is_no_sign_of_the_store() -> None:
    box = outbox()
    box.offer(face(1))
    box.offer(face(2))
    for face_id in sent(box):
        box.broker_has(face_id, 0.0)
    assert sent(box, 2.0) == ["face-1"]
    box.withdraw("face-1")
    box.withdraw("face-2")
    assert box.is_store_silent
    assert box.in_flight_bytes == 0
    box.offer(face(3))
    assert sent(box, box.next_due_s()) == ["face-3"]


def test_what_was_put_back_is_read_as_backlog() -> None:
    box = outbox(last_sequence=1)
    feed(box, [face(1)])
    assert sent(box) == ["face-1"]
    assert box.wants_backlog() is None
    box.extend(3)
    feed(box, map(face, [1, 2, 3]))
    assert sent(box) == ["face-2", "face-3"]


def test_a_face_in_the_queue_to_the_broker_is_not_sent_again() -> None:
    box = outbox()
    box.offer(face(1))
    assert sent(box) == ["face-1"]
    assert sent(box, 1_000.0) == []
    assert box.next_due_s() == math.inf


def test_copies_expire_when_the_next_one_is_sent() -> None:
    box = outbox()
    box.offer(face(1))
    first = box.next(0.0)
    assert first is not None
    assert (first.is_again, first.expiry_s) == (False, 2)
    box.broker_has("face-1", 0.0)
    again = box.next(2.0)
    assert isinstance(again, FaceToSend)
    assert (again.is_again, again.expiry_s) == (True, 4)


def test_a_receipted_face_is_forgotten_wherever_it_waits() -> None:
    box = outbox(last_sequence=1)
    feed(box, [face(1)])
    box.offer(face(2))
    box.settle("face-1", 0.0)
    box.settle("face-2", 0.0)
    assert sent(box) == []
    box.offer(face(3))
    assert sent(box) == ["face-3"]
    box.settle("face-3", 0.1)
    assert box.in_flight_bytes == 0


def test_the_answer_to_a_read_of_an_earlier_connection_is_ignored() -> None:
    box = outbox(last_sequence=1)
    read = box.wants_backlog()
    assert read is not None
    box.link_down()
    box.link_up()
    box.backlog(read, BacklogPart([face(1)], 1))
    assert sent(box) == []
    feed(box, [face(1)])
    assert sent(box) == ["face-1"]


def test_what_is_too_much_to_wait_in_memory_becomes_backlog() -> None:
    box = outbox(window_bytes=1_000)
    faces = [face(sequence, 999_488) for sequence in range(1, 11)]
    for each in faces:
        box.offer(each)
    assert sent(box) == ["face-1", "face-2"]
    read = box.wants_backlog()
    assert read is not None
    assert read.until == 10
    assert FRESH_MAX_BYTES < 10 * 999_488


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Whatever happens in whatever order, every face is sent until it is receipted."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.sequence = 3
        self.disk = {number: face(number, 30_000) for number in (1, 2, 3)}
        self.knows_firsts = True
        self.under_way: set[str] = set()
        self.is_up = False
        self.box = Outbox(CongestionWindow(60_000, 200_000), 2.0, self.sequence)

    @rule()
    def link_changes(self) -> None:
        self.is_up = not self.is_up
        (self.box.link_up if self.is_up else self.box.link_down)()
        self.under_way.clear()

    @rule(count=st.integers(1, 200), every=st.integers(1, 5))
    def faces_come(self, count: int, every: int) -> None:
        for number in range(count):
            self.sequence += 1
            self.disk[self.sequence] = face(self.sequence, 30_000, is_later=number % every > 0)
            self.box.offer(self.disk[self.sequence])

    @rule(knows=st.booleans())
    def disk_learns_or_forgets_which_are_first(self, knows: bool) -> None:
        self.knows_firsts = knows

    @rule()
    def an_old_face_comes_again(self) -> None:
        # detect did not hear of its receipt; the spool ignores the insert.
        if self.disk:
            self.sequence += 1
            again = next(iter(self.disk.values()))
            self.box.offer(SpooledFace(self.sequence, again.id, again.message))

    @rule()
    def disk_is_read(self) -> None:
        if (read := self.box.wants_backlog()) is not None:
            found = [each for _, each in sorted(self.disk.items())]
            self.box.backlog(
                read, part(read, found, most=40, indexed=lambda one: self.knows_firsts and not one.is_later)
            )

    @rule(seconds=st.floats(0.01, 20))
    def sender_runs(self, seconds: float) -> None:
        self.now_s += seconds
        while (sending := self.box.next(self.now_s)) is not None:
            self.under_way.add(sending.face.id)

    @rule(count=st.integers(1, 10))
    def faces_are_put_back(self, count: int) -> None:
        for _ in range(count):
            self.sequence += 1
            self.disk[self.sequence] = face(self.sequence, 30_000, is_later=self.sequence % 2 > 0)
        self.box.extend(self.sequence)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), is_receipted=st.booleans())
    def broker_answers(self, data: st.DataObject, is_receipted: bool) -> None:
        face_id = data.draw(st.sampled_from(sorted(self.under_way)))
        self.box.broker_has(face_id, self.now_s)
        if is_receipted:
            self.receipt(face_id)

    def receipt(self, face_id: str) -> None:
        self.box.settle(face_id, self.now_s)
        self.under_way.discard(face_id)
        self.disk = {at: each for at, each in self.disk.items() if each.id != face_id}

    @invariant()
    def bytes_under_way_are_bounded(self) -> None:
        assert 0 <= self.box.in_flight_bytes <= 200_000 + 31_000

    def teardown(self) -> None:
        """With the link up and receipts coming, everything leaves the disk."""
        if not self.is_up:
            self.link_changes()
        for _ in range(10_000):
            if not self.disk:
                break
            self.disk_is_read()
            self.sender_runs(70.0 if self.box.is_store_silent else 1.0)
            for face_id in sorted(self.under_way):
                self.box.broker_has(face_id, self.now_s)
                self.receipt(face_id)
        assert not self.disk
        assert self.box.in_flight_bytes == 0


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=60, stateful_step_count=30)


def test_settling_twice_does_no_harm() -> None:
    box = outbox()
    box.offer(face(1))
    assert sent(box) == ["face-1"]
    box.settle("face-1", 0.1)
    box.settle("face-1", 0.2)
    assert box.in_flight_bytes == 0


@pytest.mark.parametrize("is_up", [True, False])
def test_an_empty_spool_has_no_backlog(is_up: bool) -> None:
    box = outbox(is_up=is_up)
    if is_up:  # damage may have left rows before the first place: that is seen once
        feed(box, [])
    assert box.wants_backlog() is None


def test_on_a_slow_link_a_new_face_waits_behind_two_old_ones_at_most() -> None:
    """A floor of the window in bytes was four seconds of 256 kbit/s."""
    box = Outbox(CongestionWindow(), 2.0, 200)
    box.link_up()
    feed(box, [face(sequence, 19_488) for sequence in range(1, 201)])
    under_way = [*sent(box)]
    now_s, bytes_per_s = 0.0, 32_000.0
    for number in range(60):  # the link carries one after the other
        now_s += 20_000 / bytes_per_s
        box.settle(under_way.pop(0), now_s)
        under_way += sent(box, now_s)
        if number > 30:
            assert len(under_way) <= 3


def test_faces_that_nobody_answers_for_do_not_hold_back_others() -> None:
    """One camera of which no store wants to hear; another of which all is well."""
    box = outbox(window_bytes=100_000)
    stored: set[str] = set()
    hopeless: set[str] = set()
    deaf = {f"face-{number}" for number in range(1, 21)}
    for number in range(1, 21):
        box.offer(face(number, 20_000))
    for second in range(600):
        if second and second % 5 == 0 and second < 300:
            box.offer(face(1_000 + second, 20_000, topic="another"))
        while (sending := box.next(float(second))) is not None:
            if sending.is_hopeless:
                box.withdraw(sending.face.id)
                hopeless.add(sending.face.id)
                continue
            box.broker_has(sending.face.id, float(second))
            if sending.face.id not in deaf:
                stored.add(sending.face.id)
                box.settle(sending.face.id, float(second))
    assert len(stored) == 59
    assert hopeless <= deaf


def test_a_store_that_lets_go_of_two_faces_in_three_gets_them_all_in_the_end() -> None:
    """As one does that bounds our rate: what comes too soon has no answer, and may come too soon again."""
    box, rng = outbox(window_bytes=100_000), random.Random(1)
    stored: set[str] = set()
    faces = [face(number, 20_000) for number in range(1, 101)]
    for one in faces:
        box.offer(one)
    for second in range(20_000):
        if (read := box.wants_backlog()) is not None:  # what gave way to a probe lies on the disk
            left = [one for one in faces if one.id not in stored and read.after < one.sequence <= read.until]
            box.backlog(read, BacklogPart(left, read.until))
        while (sending := box.next(float(second))) is not None:
            assert not sending.is_hopeless
            box.broker_has(sending.face.id, float(second))
            if rng.random() < 1 / 3:
                stored.add(sending.face.id)
                box.settle(sending.face.id, float(second))
    assert len(stored) == 100


def test_while_nothing_at_all_is_heard_no_face_is_given_up() -> None:
    box = outbox()
    for number in range(1, 6):
        box.offer(face(number))
    sendings = 0
    for second in range(20_000):
        while (sending := box.next(float(second))) is not None:
            assert not sending.is_hopeless
            box.broker_has(sending.face.id, float(second))
            sendings += 1
    assert sendings > 100


def test_a_silent_store_with_nothing_to_send_wakes_nobody() -> None:
    box = outbox()
    box.offer(face(1))
    assert sent(box) == ["face-1"]
    box.broker_has("face-1", 0.0)
    assert sent(box, 2.0) == ["face-1"]
    box.link_down()
    assert box.next_due_s() == math.inf


def test_a_refused_knock_costs_no_wait() -> None:
    box = outbox()
    for number in range(1, 21):
        box.offer(face(number))
    first = sent(box)
    for face_id in first:
        box.broker_has(face_id, 0.0)
    assert len(sent(box, 2.0)) == 1
    for face_id in first[:-1]:
        box.withdraw(face_id)
    assert box.next_due_s() <= 2.0


def test_however_long_a_store_is_silent_little_is_under_way() -> None:
    """A probe with a face that was never sent takes the place of one that was."""
    box = outbox(window_bytes=100_000)
    disk = {number: face(number, 19_488, topic=f"camera-{number % 3}") for number in range(1, 501)}
    for each in disk.values():
        box.offer(each)
    knocked: set[str] = set()
    for second in range(0, 200_000, 5):
        if (read := box.wants_backlog()) is not None:
            box.backlog(read, part(read, disk.values(), most=100))
        while (sending := box.next(float(second))) is not None:
            box.broker_has(sending.face.id, float(second))
            knocked.add(sending.face.id)
        assert box.in_flight_bytes <= 120_000
    assert len(knocked) > 100
