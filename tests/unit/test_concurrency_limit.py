import asyncio

import pytest

from services.common.runtime.concurrency import ConcurrencyLimit


class Counted:
    """Work that takes a few turns of the loop; counts how much of it goes on at a time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def double(self, number: int) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(number % 3 + 1):
            await asyncio.sleep(0)
        self.now -= 1
        return 2 * number


async def test_results_come_in_the_order_of_the_items() -> None:
    assert await ConcurrencyLimit(3).each(range(10), Counted().double) == list(range(0, 20, 2))
    assert await ConcurrencyLimit(3).each([], Counted().double) == []


async def test_no_more_work_runs_at_a_time_than_may_over_all_callers() -> None:
    limit, counted = ConcurrencyLimit(4), Counted()
    await asyncio.gather(*(limit.each(range(20), counted.double) for _ in range(5)))
    assert counted.most == 4


async def test_an_error_is_the_caller_s_and_frees_the_place() -> None:
    async def fail(number: int) -> int:
        raise ValueError(number)

    limit = ConcurrencyLimit(1)
    with pytest.raises(ValueError, match="1"):
        await limit.each([1], fail)
    assert await limit.each([1], Counted().double) == [2]
