import dataclasses

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.wire.faces import Face, mint
from services.common.wire.frames import Frame
from services.detect.custody import MOST_RESEND_S, OVERHEAD_BYTES, Custody
from tests.detect_clips import frame

ALL = 1 << 40


def faces(of: Frame, *images: bytes) -> list[Face]:
    return [mint(of.source, of.time, image, "image/jpeg", {}) for image in images]


def ids(found: list[Face]) -> list[str]:
    return [face.id for face in found]


def custody() -> Custody:
    return Custody(max_bytes=1 << 20, max_faces=100)


def test_new_faces_are_to_be_published_once() -> None:
    held, one = custody(), frame(b"")
    found = faces(one, b"a", b"b")
    assert [sending.face for sending in held.hold(one, found, 0)] == found
    assert held.hold(one, found, 0) == []


def test_paced_frame_is_complete_when_its_last_face_is_receipted() -> None:
    held, one = custody(), frame(b"", 7)
    found = faces(one, b"a", b"b")
    held.hold(one, found, 0)
    assert held.is_waiting(one)
    assert held.release([found[0].id]) == []
    [done] = held.release([found[1].id])
    assert (done.source, done.sequence, list(done.faces)) == (one.source, 7, ids(found))
    assert not held.is_waiting(one)


def test_face_of_two_frames_completes_both() -> None:
    # Capture started anew numbers the same moment of the same file differently.
    held, first, again = custody(), frame(b"", 7), dataclasses.replace(frame(b"", 7), sequence=0)
    found = faces(first, b"a")
    held.hold(first, found, 0)
    held.hold(again, found, 0)
    assert {done.sequence for done in held.release(ids(found))} == {7, 0}


def test_live_frame_and_frame_without_faces_wait_for_nothing() -> None:
    held, live, empty = custody(), frame(b"", is_paced=False), frame(b"", 1)
    held.hold(live, faces(live, b"a"), 0)
    held.hold(empty, [], 0)
    assert not held.is_waiting(live)
    assert not held.is_waiting(empty)


def test_identical_crops_of_one_frame_are_one_face() -> None:
    held, one = custody(), frame(b"")
    assert len(held.hold(one, faces(one, b"a", b"a"), 0)) == 1
    [done] = held.release(ids(faces(one, b"a")))
    assert len(done.faces) == 1


def test_unreceipted_face_is_due_at_growing_intervals_up_to_ten_seconds() -> None:
    held, one = custody(), frame(b"")
    held.hold(one, faces(one, b"a"), 0)
    times = [(tenth / 10, sending.expiry_s) for tenth in range(600) for sending in held.due(tenth / 10, ALL)]
    assert times[:5] == [(1.0, 2), (3.0, 4), (7.0, 8), (15.0, 10), (25.0, 10)]
    assert all(expiry <= MOST_RESEND_S for _, expiry in times)


def test_new_connection_makes_everything_due() -> None:
    held, one = custody(), frame(b"")
    found = faces(one, b"a", b"b")
    held.hold(one, found, 0)
    held.due(1.0, ALL)
    held.start_over(1.5)
    again = held.due(1.5, ALL)
    assert [(sending.face, sending.expiry_s) for sending in again] == [(face, 1) for face in found]


def test_what_is_due_comes_oldest_first_and_in_portions() -> None:
    held = custody()
    for number in range(4):
        one = frame(b"", number)
        held.hold(one, faces(one, bytes(1_000)), number)
    held.start_over(10)
    portions = [[sending.face.time.microsecond for sending in held.due(10, 4_000)] for _ in range(3)]
    assert portions == [[0, 100_000], [200_000, 300_000], []]


def test_it_is_full_at_its_bound_in_bytes_and_in_faces() -> None:
    one = frame(b"")
    by_bytes = Custody(max_bytes=OVERHEAD_BYTES + 10, max_faces=10)
    by_bytes.hold(one, faces(one, bytes(9)), 0)
    assert not by_bytes.is_full
    by_bytes.hold(one, faces(one, b"a"), 0)
    assert len(by_bytes) == 2
    assert by_bytes.is_full


def test_face_of_a_full_custody_is_held_all_the_same() -> None:
    one = frame(b"")
    by_count = Custody(max_bytes=ALL, max_faces=1)
    by_count.hold(one, faces(one, b"a", b"b"), 0)
    assert by_count.is_full
    assert len(by_count) == 2
    by_count.release(ids(faces(one, b"a", b"b")))
    assert len(by_count) == 0


def test_room_is_kept_for_what_is_under_way() -> None:
    one, two = frame(b"", 1), frame(b"", 2)
    held, rooms = Custody(max_bytes=ALL, max_faces=4), []
    for each in (one, two):
        held.expect(each, [10, 10])
        rooms.append(held.has_room)
    assert not held.is_full  # which is said of what waits for receipts alone
    held.hold(one, faces(one, b"a"), 0)
    for each in (one, two, two):
        held.expect_no_more(each)
        rooms.append(held.has_room)
    assert rooms == [True, False, True, True, True]


def test_so_it_is_in_bytes() -> None:
    held, rooms = Custody(max_bytes=OVERHEAD_BYTES + 10, max_faces=10), []
    for size_bytes in (9, 10):
        held.expect(frame(b"", 1), [size_bytes])
        rooms.append(held.has_room)
    assert rooms == [True, False]


def test_age_is_that_of_the_oldest() -> None:
    held, one, two = custody(), frame(b"", 1), frame(b"", 2)
    assert held.oldest_s(5) == 0
    held.hold(one, faces(one, b"a"), 10)
    held.hold(two, faces(two, b"b"), 20)
    assert held.oldest_s(25) == 15
    held.release(ids(faces(one, b"a")))
    assert held.oldest_s(25) == 5


class CustodyMachine(RuleBasedStateMachine):
    """Whatever happens, in whatever order: no face leaves without a receipt, no frame is answered early."""

    def __init__(self) -> None:
        super().__init__()
        self.custody = Custody(max_bytes=5_000, max_faces=5)
        self.held: dict[str, Face] = {}
        self.open: dict[int, set[str]] = {}
        self.now_s = 0.0

    @rule(
        number=st.integers(0, 6), images=st.lists(st.sampled_from([b"a", b"b", b"c"])), is_paced=st.booleans()
    )
    def hold(self, number: int, images: list[bytes], is_paced: bool) -> None:
        one = frame(b"", number, is_paced=is_paced)
        found = faces(one, *images)
        new = {face.id for face in found} - set(self.held)
        assert {sending.face.id for sending in self.custody.hold(one, found, self.now_s)} == new
        self.held |= {face.id: face for face in found}
        if is_paced and found:
            self.open[number] = set(ids(found))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        known = sorted(self.held)
        receipted = set(data.draw(st.lists(st.sampled_from(known)))) if known else set()
        done = {answer.sequence for answer in self.custody.release({*receipted, "never-seen"})}
        for face_id in receipted:
            del self.held[face_id]
        for missing in self.open.values():
            missing.difference_update(receipted)
        expected = {number for number, missing in self.open.items() if not missing}
        assert done == expected
        for number in expected:
            del self.open[number]

    @rule(step_s=st.floats(0, 30))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s
        for sending in self.custody.due(self.now_s, ALL):
            assert sending.face.id in self.held

    @rule()
    def reconnect(self) -> None:
        self.custody.start_over(self.now_s)
        assert {sending.face.id for sending in self.custody.due(self.now_s, ALL)} == set(self.held)

    @invariant()
    def everything_is_held_and_counted(self) -> None:
        assert len(self.custody) == len(self.held)
        size = sum(len(face.image) + OVERHEAD_BYTES for face in self.held.values())
        assert self.custody.size_bytes == size


TestCustody = CustodyMachine.TestCase
