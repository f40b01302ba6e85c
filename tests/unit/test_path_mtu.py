"""When a way is taken for one that swallows large packets."""

from services.common.mqtt.endpoint import PROBATION_S, SEGMENTS_BYTES, SHORT_S, PathMtu


def test_a_way_on_which_large_messages_pass_is_left_alone() -> None:
    path = PathMtu()
    for _ in range(3):
        path.begin()
        path.sent()
        path.ended(is_silent=True, is_stuck=True, up_s=9.0)
    assert (path.segment_bytes, path.problem) == (None, None)


def test_an_end_that_was_said_says_nothing_of_the_way() -> None:
    path = PathMtu()
    for _ in range(3):
        path.begin()
        path.ended(is_silent=False, is_stuck=True, up_s=9.0)
    assert (path.segment_bytes, path.problem, path.why_not_ready(0.0)) == (None, None, None)


def test_the_connection_after_a_silence_is_not_relied_on_before_something_large_has_passed() -> None:
    path = PathMtu()
    path.begin()
    path.sent()
    path.ended(is_silent=True, is_stuck=True, up_s=9.0)
    path.begin()
    assert "nothing large has passed yet" in str(path.why_not_ready(1.0))
    assert path.why_not_ready(PROBATION_S + 1) is None
    path.sent()
    assert path.why_not_ready(1.0) is None


def test_smaller_segments_are_tried_in_turn_until_something_large_passes() -> None:
    path = PathMtu()
    tried = []
    for _ in range(5):
        path.begin()
        path.ended(is_silent=True, is_stuck=True, up_s=9.0)
        tried.append(path.segment_bytes)
    assert tried == [*SEGMENTS_BYTES, *SEGMENTS_BYTES[:2]]
    assert "large ones do not" in str(path.problem)
    path.begin()
    path.sent()
    assert path.problem is None
    assert path.segment_bytes == SEGMENTS_BYTES[1]  # what works is kept


def test_after_a_silence_with_nothing_large_under_way_the_next_connection_is_relied_on() -> None:
    path = PathMtu()
    path.begin()
    path.ended(is_silent=True, is_stuck=False, up_s=9.0)
    path.begin()
    assert path.why_not_ready(0.1) is None


def test_silences_far_apart_with_nothing_large_under_way_say_nothing() -> None:
    path = PathMtu()
    for _ in range(5):
        path.begin()
        path.ended(is_silent=True, is_stuck=False, up_s=SHORT_S + 1)
    assert (path.segment_bytes, path.problem) == (None, None)


def test_what_comes_in_is_no_sign_that_what_goes_out_passes() -> None:
    path = PathMtu()
    for _ in range(2):
        path.begin()
        path.received()
        path.ended(is_silent=True, is_stuck=True, up_s=9.0)
    assert path.segment_bytes == SEGMENTS_BYTES[1]
    assert "large ones do not" in str(path.problem)


def test_one_that_only_receives_is_believed_when_something_large_has_come_in() -> None:
    path = PathMtu()
    path.begin()
    path.ended(is_silent=True, is_stuck=False, up_s=9.0)
    assert path.segment_bytes == SEGMENTS_BYTES[0]
    path.begin()
    path.received()
    assert path.problem is None
