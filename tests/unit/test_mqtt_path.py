"""When a way is taken for one that swallows large packets."""

from services.common.mqtt.path import PROBATION_S, SEGMENTS_BYTES, Path


def test_a_way_on_which_large_messages_pass_is_left_alone() -> None:
    path = Path()
    for _ in range(3):
        path.begin()
        path.passes()
        path.ended(is_silent=True)
    assert (path.segment_bytes, path.problem) == (None, None)


def test_an_end_that_was_said_says_nothing_of_the_way() -> None:
    path = Path()
    for _ in range(3):
        path.begin()
        path.ended(is_silent=False)
    assert (path.segment_bytes, path.problem, path.why_not_ready(0.0)) == (None, None, None)


def test_the_connection_after_a_silence_is_not_relied_on_before_something_large_has_passed() -> None:
    path = Path()
    path.begin()
    path.passes()
    path.ended(is_silent=True)
    path.begin()
    assert "nothing large has passed yet" in str(path.why_not_ready(1.0))
    assert path.why_not_ready(PROBATION_S + 1) is None
    path.passes()
    assert path.why_not_ready(1.0) is None


def test_smaller_segments_are_tried_in_turn_until_something_large_passes() -> None:
    path = Path()
    tried = []
    for _ in range(5):
        path.begin()
        path.ended(is_silent=True)
        tried.append(path.segment_bytes)
    assert tried == [*SEGMENTS_BYTES, *SEGMENTS_BYTES[:2]]
    assert "large ones do not" in str(path.problem)
    path.begin()
    path.passes()
    assert path.problem is None
    assert path.segment_bytes == SEGMENTS_BYTES[1]  # what works is kept
