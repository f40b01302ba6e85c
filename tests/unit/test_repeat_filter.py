from services.common.runtime.logging import REPEAT_AFTER_S, RepeatFilter


def test_a_reason_is_news_once() -> None:
    news = RepeatFilter()
    assert news.is_new("closed", 0)
    assert not any(news.is_new("closed", now_s) for now_s in range(1, 86_400, 5))


def test_each_change_is_news() -> None:
    news = RepeatFilter()
    assert [news.is_new(reason, 0) for reason in ("closed", "closed", "refused", "silent")] == [
        True,
        False,
        True,
        True,
    ]


def test_two_that_take_turns_are_said_once_a_minute() -> None:
    news = RepeatFilter()
    said = [news.is_new("closed" if tick % 2 else "refused", tick) for tick in range(600)]
    assert sum(said) <= 2 * (600 / REPEAT_AFTER_S + 1)


def test_after_it_is_over_the_same_reason_is_news() -> None:
    news = RepeatFilter()
    news.is_new("closed", 0)
    news.reset()
    assert news.is_new("closed", 1)


def test_reasons_that_never_repeat_take_no_memory() -> None:
    news = RepeatFilter()
    assert all(news.is_new(f"at {number}", number) for number in range(1_000))
    assert len(news._said_s) <= 64
