"""The windows, the rate limit and the quality: each with time as an argument."""

from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.capture.encoder import CALM_FRAMES, LEVELS, QualityControl
from services.capture.flow_control import (
    FIRST_WAIT_S,
    HEADROOM,
    MOST_PERIOD_S,
    LiveWindow,
    PacedWindow,
    RateLimit,
    SendSchedule,
    decoded_fps,
)
from services.capture.source.pipe import LEAST_S, MOST_S, SHARE, ReadPauses
from services.common.wire.message import Message
from services.detect.look_interval import STILL_S

TIMEOUT_S = 2.0


def unheard() -> LiveWindow[str]:
    return LiveWindow(4, TIMEOUT_S, first=100)


def live(size: int = 4) -> LiveWindow[str]:
    """Return a window whose first frame is answered; the next one is number 100."""
    window: LiveWindow[str] = LiveWindow(size, TIMEOUT_S, first=99)
    window.offer("first")
    window.take(0.0)
    window.answer(99)
    return window


def fill(window: LiveWindow[str], now_s: float = 0.0) -> list[int]:
    """Offer pictures until none is taken any more; return the numbers of those that were."""
    taken = []
    for number in range(20):
        window.offer(f"picture {number}")
        if (out := window.take(now_s)) is None:
            break
        taken.append(out[0])
    return taken


def test_a_picture_that_waits_for_a_place_is_known() -> None:
    window = live()
    fill(window)
    assert window.is_waited_in
    window.answer(100)
    assert window.take(0.0) is not None
    assert not window.is_waited_in


def test_no_more_than_the_window_is_unanswered() -> None:
    window = live()
    assert fill(window) == [100, 101, 102, 103]
    assert window.in_flight == 4


def test_newest_replaces_the_one_that_waits() -> None:
    window = live(1)
    fill(window)
    assert window.offer("newest")
    assert window.answer(100)
    assert window.take(0.1) == (101, "newest")
    assert window.take(0.1) is None


def test_answer_frees_one_place_once() -> None:
    window = live()
    fill(window)
    assert window.answer(101)
    assert not window.answer(101)
    assert window.in_flight == 3


def test_a_late_answer_frees_nothing_but_opens_the_window() -> None:
    window = unheard()
    (knock,) = fill(window)
    window.expire(FIRST_WAIT_S)
    assert not window.answer(knock)
    assert len(fill(window, FIRST_WAIT_S)) == 4


def test_answer_to_an_earlier_runs_frame_opens_nothing() -> None:
    window = unheard()
    assert not window.answer(7)
    assert len(fill(window)) == 1


def test_answer_to_an_earlier_runs_frame_frees_nothing() -> None:
    window = live()
    fill(window)
    assert not window.answer(7)
    assert window.in_flight == 4


def test_place_frees_itself_when_no_answer_comes_in_time() -> None:
    window = live()
    fill(window, 10.0)
    assert window.next_deadline_s == 12.0
    assert window.expire(11.999) == 0
    assert window.expire(12.0) == 4
    assert window.in_flight == 0


def test_while_no_answer_comes_one_frame_goes_out_at_a_time() -> None:
    window = live()
    fill(window, 0.0)
    window.expire(TIMEOUT_S)
    assert len(fill(window, TIMEOUT_S)) == 1
    window.expire(2 * TIMEOUT_S)
    (probe,) = fill(window, 2 * TIMEOUT_S)
    window.answer(probe)
    assert len(fill(window, 2 * TIMEOUT_S)) == 4


def test_before_the_first_answer_one_frame_knocks_with_growing_pauses() -> None:
    window, now_s = unheard(), 0.0
    out_s: list[float] = []
    while len(out_s) < 6:
        if fill(window, now_s):
            out_s.append(now_s)
        assert window.in_flight == 1
        assert window.next_deadline_s is not None
        now_s = window.next_deadline_s
        window.expire(now_s)
    waits_s = [times * FIRST_WAIT_S for times in (0, 1, 3, 7, 15)]
    assert out_s == [*waits_s, waits_s[-1] + TIMEOUT_S]


def test_the_first_answer_opens_the_window() -> None:
    window = unheard()
    (knock,) = fill(window)
    window.answer(knock)
    assert len(fill(window)) == 4
    assert window.next_deadline_s == TIMEOUT_S


def test_lost_connection_frees_all_places_and_the_next_one_is_knocked_at() -> None:
    window = live()
    fill(window)
    assert window.lose() == 4
    assert len(fill(window)) == 1
    assert window.next_deadline_s == FIRST_WAIT_S


@given(
    st.lists(
        st.one_of(
            st.just(("offer", 0)),
            st.tuples(st.just("answer"), st.integers(100, 130)),
            st.tuples(st.just("wait"), st.integers(0, 3)),
        ),
        max_size=80,
    )
)
def test_window_is_never_exceeded_and_no_number_goes_out_twice(events: list[tuple[str, int]]) -> None:
    window, now_s, numbers = live(), 0.0, []
    for kind, value in events:
        if kind == "offer":
            window.offer("picture")
        elif kind == "answer":
            window.answer(value)
        else:
            now_s += value
            window.expire(now_s)
        if (out := window.take(now_s)) is not None:
            numbers.append(out[0])
        assert window.in_flight <= 4
    assert numbers == sorted(set(numbers))


def message(number: int) -> Message:
    return Message(topic=f"frame/{number}")


def paced(frames: int) -> PacedWindow:
    """Return a window in which a frame before these is answered."""
    window = PacedWindow(4, TIMEOUT_S)
    window.answer(-1)
    for number in range(frames):
        window.add(number, message(number), 0.0)
    return window


def test_paced_frames_go_out_once_and_again_with_growing_pauses() -> None:
    window, now_s = paced(1), 0.0
    times: list[float] = []
    while len(times) < 6:
        if window.take_due(now_s):
            times.append(now_s)
        assert window.next_due_s is not None
        now_s = window.next_due_s
    assert times == [0, 2, 6, 14, 24, 34]


def test_paced_frames_are_sent_again_soon_until_an_answer_comes() -> None:
    window = PacedWindow(4, TIMEOUT_S)
    for number in range(2):
        window.add(number, message(number), 0.0)
    window.take_due(0.0)
    assert window.next_due_s == FIRST_WAIT_S
    window.take_due(FIRST_WAIT_S)
    window.answer(0)
    window.add(2, message(2), 1.0)
    assert list(window.take_due(1.0)) == [message(1), message(2)]
    assert window.next_due_s == 1.0 + TIMEOUT_S


def test_paced_source_waits_while_the_window_is_full() -> None:
    window = paced(4)
    assert (window.is_full, window.is_empty) == (True, False)
    assert window.answer(2)
    assert (window.is_full, window.is_empty) == (False, False)


def test_dropped_paced_frame_is_sent_again_soon_and_never_given_up() -> None:
    window = paced(1)
    window.take_due(0.0)
    window.reject(0, 0.1)
    assert not window.take_due(0.11)
    assert list(window.take_due(1.0)) == [message(0)]
    assert not window.is_empty


def test_new_connection_gets_every_unanswered_frame_at_once_in_order() -> None:
    window = paced(3)
    window.take_due(0.0)
    window.answer(1)
    window.make_due(0.5)
    assert list(window.take_due(0.5)) == [message(0), message(2)]
    assert window.next_due_s == 0.5 + FIRST_WAIT_S


@given(st.floats(0.5, 60), st.floats(0.5, 60), st.integers(0, 2**32))
def test_rate_limit_is_kept_and_used(source_fps: float, limit_fps: float, seed: int) -> None:
    limit, seconds = RateLimit(limit_fps), 60
    frames = [
        number / source_fps + (hash((seed, number)) % 100) / 100 * 0.1 / source_fps
        for number in range(int(source_fps * seconds))
    ]
    passed = sum(map(limit.admits, frames))
    assert passed <= limit_fps * seconds * 1.01 + 2
    # A source that is a little faster than the limit gives at worst every other picture.
    assert passed >= min(source_fps, limit_fps) * seconds * 0.49 - 2


def test_a_third_of_thirty_frames_a_second_is_ten() -> None:
    limit = RateLimit(10)
    assert sum(limit.admits(number / 30) for number in range(300)) == 100


def test_camera_at_the_limit_loses_nothing_to_jitter() -> None:
    limit = RateLimit(10)
    assert all(limit.admits(number / 10 + (0.02 if number % 2 else 0)) for number in range(100))


def test_no_limit_lets_all_through() -> None:
    assert all(RateLimit(None).admits(0.0) for _ in range(10))


def test_quality_steps_down_to_the_last_level_and_then_says_no() -> None:
    fit = QualityControl()
    assert fit.level.is_untouched
    steps = 0
    while fit.step_down():
        steps += 1
    assert steps == len(LEVELS) - 1
    assert fit.level == LEVELS[-1]


def test_quality_comes_back_after_a_calm_while_only() -> None:
    fit = QualityControl()
    fit.step_down()
    for _ in range(CALM_FRAMES - 1):
        fit.note(100, 1000)
    fit.note(900, 1000)
    for _ in range(CALM_FRAMES - 1):
        fit.note(100, 1000)
    assert fit.level == LEVELS[1]
    fit.note(100, 1000)
    assert fit.level == LEVELS[0]


def sent(
    schedule: SendSchedule, *, fps: float, seconds: float, answer_s: float, delay_s: float = 0.02
) -> list[float]:
    """Return when pictures of a camera go out, if each is answered after a while."""
    out: list[float] = []
    answers: list[tuple[float, int]] = []
    for number in range(int(seconds * fps)):
        now_s = number / fps
        while answers and answers[0][0] <= now_s:
            schedule.answered(answers.pop(0)[1], answer_s)
        if schedule.is_due(now_s):
            schedule.sent(now_s)
            out.append(now_s)
            answers.append((now_s + delay_s, number))
    return out


def gaps(times_s: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times_s)]


@given(fps=st.sampled_from([5, 10, 12.5, 15, 24, 25, 29.97, 30, 60]), answer_s=st.floats(0.05, 0.5))
def test_as_many_pictures_go_out_as_are_asked_for(fps: float, answer_s: float) -> None:
    times_s = sent(SendSchedule(), fps=fps, seconds=20, answer_s=answer_s)
    # A camera gives only whole periods: none is more than one too long or too short, and together they fit.
    asked_s = max(answer_s, 1 / fps)
    assert all(abs(gap_s - asked_s) <= 1 / fps + 1e-6 for gap_s in gaps(times_s)[2:])
    assert mean(gaps(times_s)[2:]) == pytest.approx(asked_s, rel=0.03)


@pytest.mark.parametrize("fps", [10, 15, 25, 30])
def test_where_nothing_changes_no_gap_is_longer_than_what_a_short_visit_takes(fps: float) -> None:
    assert max(gaps(sent(SendSchedule(), fps=fps, seconds=20, answer_s=STILL_S))) <= 0.3 + 1e-6


def test_nothing_is_held_back_before_the_first_answer_and_by_an_answer_of_nothing() -> None:
    schedule = SendSchedule()
    assert schedule.is_due(0.0)
    schedule.sent(0.0)
    assert schedule.is_due(0.03)
    schedule.answered(1, 0.2)
    assert not schedule.is_due(0.06)
    schedule.answered(2, None)
    assert schedule.is_due(0.09)


def test_a_slow_detect_is_given_no_more_than_a_quick_one() -> None:
    quick = sent(SendSchedule(), fps=30, seconds=10, answer_s=0.1, delay_s=0.01)
    slow = sent(SendSchedule(), fps=30, seconds=10, answer_s=0.1, delay_s=0.25)
    assert len(slow) <= len(quick) + 10


def test_an_answer_that_was_overtaken_counts_no_more() -> None:
    schedule = SendSchedule()
    schedule.sent(0.0)
    schedule.answered(2, 0.0)
    schedule.answered(1, 1.0)
    assert schedule.is_due(0.03)


def test_what_was_asked_for_ends_with_the_connection() -> None:
    schedule = SendSchedule()
    schedule.sent(0.0)
    schedule.answered(1, 2.0)
    assert not schedule.is_due(0.5)
    schedule.forget()
    assert schedule.is_due(0.6)


def test_what_is_idle_ends_before_the_next_picture_is_due() -> None:
    schedule = SendSchedule()
    for number in range(30):
        schedule.is_due(number / 30)
    schedule.sent(1.0)
    schedule.answered(1, 0.25)
    idle_s = schedule.idle_s(1.03)
    assert idle_s > 0.15
    assert not schedule.is_due(1.03 + idle_s)
    assert schedule.is_due(1.25)
    assert schedule.idle_s(1.25) == 0.0


def test_pictures_that_are_read_several_at_a_time_have_the_same_period() -> None:
    bursts, steady = SendSchedule(), SendSchedule()
    for number in range(200):
        steady.is_due(number / 30)
        bursts.is_due((number // 4) * 4 / 30)
    for schedule in (bursts, steady):
        schedule.sent(10.0)
        schedule.answered(1, 0.2)
    assert bursts.idle_s(10.0) == pytest.approx(steady.idle_s(10.0), abs=0.005)


def test_a_pipe_is_never_left_until_it_is_full() -> None:
    pauses = ReadPauses(pipe_bytes=1_000_000)
    assert pauses.pause_s(1.0) == 0.0  # how much comes is not yet known
    for number in range(60):
        pauses.note(120_000, number / 30, is_drained=True)
    rest_s = pauses.pause_s(1.0)
    assert rest_s * 120_000 * 30 == pytest.approx(1_000_000 * SHARE, rel=0.1)
    assert pauses.pause_s(0.05) == 0.05
    assert pauses.pause_s(LEAST_S / 2) == 0.0
    pauses.note(120_000, 2.0, is_drained=False)
    assert pauses.pause_s(1.0) == 0.0  # what is left there comes first


def test_pictures_that_a_pipe_does_not_hold_are_read_at_once_and_small_ones_soon_enough() -> None:
    raw, small = ReadPauses(pipe_bytes=1_000_000), ReadPauses(pipe_bytes=1_000_000)
    for number in range(60):
        raw.note(3_100_000, number / 30, is_drained=True)
        small.note(3_000, number / 30, is_drained=True)
    assert (raw.pause_s(1.0), small.pause_s(1.0)) == (0.0, MOST_S)


def test_where_the_user_decides_no_answer_holds_a_picture_back() -> None:
    assert len(sent(SendSchedule(most_s=0.0), fps=30, seconds=2, answer_s=2.0)) == 60


def test_a_camera_that_pauses_has_not_become_a_slow_one() -> None:
    schedule = SendSchedule()
    for number in range(10):
        schedule.is_due(number / 30)
    assert schedule.is_due(60.0)
    schedule.sent(60.0)
    schedule.answered(1, 0.5)
    assert not schedule.is_due(60.5 - MOST_PERIOD_S)


def test_of_decoded_pictures_there_are_some_more_than_are_asked_for() -> None:
    assert decoded_fps(None, 10.0) == 10 * HEADROOM
    assert decoded_fps(4.0, 10.0) == 4 * HEADROOM
    assert decoded_fps(4.0, 0.0) == 4 * HEADROOM
    assert decoded_fps(None, 0.0) is None
