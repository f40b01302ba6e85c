from services.common.runtime.logging import REPEAT_AFTER_S, RepeatFilter


def test_a_reason_is_new_once() -> None:
    reasons = RepeatFilter()
    assert reasons.is_new("closed", 0)
    assert not any(reasons.is_new("closed", now_s) for now_s in range(1, 86_400, 5))


def test_each_change_is_new() -> None:
    reasons = RepeatFilter()
    assert [reasons.is_new(reason, 0) for reason in ("closed", "closed", "refused", "silent")] == [
        True,
        False,
        True,
        True,
    ]


def test_two_that_alternate_are_logged_once_a_minute() -> None:
    reasons = RepeatFilter()
    said = [reasons.is_new("closed" if tick % 2 else "refused", tick) for tick in range(600)]
    assert sum(said) <= 2 * (600 / REPEAT_AFTER_S + 1)


def test_after_a_reset_the_same_reason_is_new() -> None:
    reasons = RepeatFilter()
    reasons.is_new("closed", 0)
    reasons.reset()
    assert reasons.is_new("closed", 1)


def test_reasons_that_never_repeat_take_no_memory() -> None:
    reasons = RepeatFilter()
    assert all(reasons.is_new(f"at {number}", number) for number in range(1_000))
    assert len(reasons._said_s) <= 64
