from services.common.runtime.queues import SAY_AGAIN_S, News


def test_a_reason_is_news_once() -> None:
    news = News()
    assert news.is_news("closed", 0)
    assert not any(news.is_news("closed", now_s) for now_s in range(1, 86_400, 5))


def test_each_change_is_news() -> None:
    news = News()
    assert [news.is_news(reason, 0) for reason in ("closed", "closed", "refused", "silent")] == [
        True,
        False,
        True,
        True,
    ]


def test_two_that_take_turns_are_said_once_a_minute() -> None:
    news = News()
    said = [news.is_news("closed" if tick % 2 else "refused", tick) for tick in range(600)]
    assert sum(said) <= 2 * (600 / SAY_AGAIN_S + 1)


def test_after_it_is_over_the_same_reason_is_news() -> None:
    news = News()
    news.is_news("closed", 0)
    news.over()
    assert news.is_news("closed", 1)


def test_reasons_that_never_repeat_take_no_memory() -> None:
    news = News()
    assert all(news.is_news(f"at {number}", number) for number in range(1_000))
    assert len(news._said_s) <= 64
