import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire.frames import PASSING, Frame
from services.common.wire.topics import Source
from services.detect.mailbox import MAX_PACED, MAX_PACED_BYTES, Dropped, Mailbox
from tests.detect_clips import frame


def live(sequence: int, camera: str = "front") -> Frame:
    return frame(b"", sequence, camera, is_paced=False)


def paced(sequence: int, camera: str = "front") -> Frame:
    return frame(b"", sequence, camera)


def taken(mailbox: Mailbox) -> list[tuple[str, int]]:
    order = []
    while (next_one := mailbox.take()) is not None:
        order.append((next_one.source.camera, next_one.sequence))
    return order


def test_newest_live_frame_wins() -> None:
    mailbox = Mailbox(8)
    assert mailbox.put(live(1)) == []
    [dropped] = mailbox.put(live(2))
    assert (dropped.frame.sequence, dropped.reason, dropped.is_final) == (1, "superseded", True)
    assert taken(mailbox) == [("front", 2)]


def test_paced_frames_wait_in_order_and_none_is_superseded() -> None:
    mailbox = Mailbox(8)
    assert [dropped for number in range(MAX_PACED) for dropped in mailbox.put(paced(number))] == []
    assert [number for _, number in taken(mailbox)] == list(range(MAX_PACED))


def test_paced_frame_that_waits_already_is_not_taken_twice() -> None:
    mailbox = Mailbox(8)
    mailbox.put(paced(1))
    [dropped] = mailbox.put(paced(1))
    assert (dropped.reason, dropped.is_final) == ("repeated", False)
    assert len(mailbox) == 1


def test_overflowing_paced_frame_is_not_answered_so_that_it_comes_again() -> None:
    mailbox = Mailbox(8)
    for number in range(MAX_PACED):
        mailbox.put(paced(number))
    [dropped] = mailbox.put(paced(MAX_PACED))
    assert (dropped.frame.sequence, dropped.reason, dropped.is_final) == (MAX_PACED, "mailbox_full", False)


def test_cameras_take_turns() -> None:
    mailbox = Mailbox(8)
    for number in range(3):
        mailbox.put(paced(number, "greedy"))
    mailbox.put(paced(0, "modest"))
    assert taken(mailbox) == [("greedy", 0), ("modest", 0), ("greedy", 1), ("greedy", 2)]


def test_camera_too_many_is_told() -> None:
    mailbox = Mailbox(1)
    mailbox.put(live(0, "first"))
    [dropped] = mailbox.put(live(0, "second"))
    assert (dropped.reason, dropped.is_final) == ("too_many_cameras", True)
    mailbox.take()
    assert mailbox.put(live(1, "second")) == []


@pytest.mark.parametrize("reason", sorted(PASSING))
def test_a_live_frame_s_answer_is_awaited_and_a_paced_one_is_sent_again_without(reason: str) -> None:
    assert Dropped(live(1), reason).is_final
    assert not Dropped(paced(1), reason).is_final


def test_what_is_wrong_with_a_paced_frame_itself_is_told() -> None:
    assert Dropped(paced(1), "bad_image").is_final


def test_live_frames_can_be_turned_away_while_paced_ones_go_on_waiting() -> None:
    mailbox = Mailbox(8)
    for each in (live(1, "yard"), paced(1), live(2)):
        mailbox.put(each)
    assert {each.source.camera for each in mailbox.take_live()} == {"yard", "front"}
    assert taken(mailbox) == [("front", 1)]


FRAMES = st.builds(
    lambda number, camera, is_paced: frame(b"", number, camera, is_paced=is_paced),
    st.integers(0, 200),
    st.sampled_from(["a", "b", "c", "d"]),
    st.booleans(),
)


@given(st.lists(st.one_of(FRAMES, st.none()), max_size=200))
def test_every_frame_is_taken_dropped_or_still_waits(steps: list[Frame | None]) -> None:
    mailbox = Mailbox(3)
    arrived = left = 0
    for step in steps:
        if step is None:
            left += mailbox.take() is not None
        else:
            arrived += 1
            left += len(mailbox.put(step))
        assert arrived == left + len(mailbox)
        assert len(mailbox) <= 3 * (MAX_PACED + 1)


def test_a_camera_with_a_frame_in_work_comes_behind_all_others() -> None:
    mailbox = Mailbox(8)
    mailbox.put(paced(0, "slow"))
    mailbox.put(paced(0, "modest"))
    slow = Source("porch", "slow")
    assert [mailbox.take({slow}), mailbox.take({slow}), mailbox.take({slow})] == [
        paced(0, "modest"),
        paced(0, "slow"),
        None,
    ]


def test_paced_frames_of_one_camera_that_wait_are_bounded_in_bytes() -> None:
    mailbox = Mailbox(8)
    large = bytes(MAX_PACED_BYTES // 4)
    assert [mailbox.put(frame(large, number)) for number in range(4)] == [[]] * 4
    assert [dropped.reason for dropped in mailbox.put(frame(b"x", 4))] == ["mailbox_full"]
    assert mailbox.put(frame(bytes(MAX_PACED_BYTES + 1), 0, "yard")) == []
