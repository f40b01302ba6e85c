import asyncio
from pathlib import Path

import pytest

from services.common import lock
from services.common.errors import SetupError


async def test_the_second_stands_by_until_the_first_lets_go(tmp_path: Path) -> None:
    order: list[str] = []

    async def second() -> None:
        async with lock.hold(tmp_path, "spool"):
            order.append("second")

    async with lock.hold(tmp_path, "spool"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(2 * lock.POLL_S)
        order.append("first")
    await asyncio.wait_for(waiting, 10)
    assert order == ["first", "second"]


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nowhere"):
        async with lock.hold(tmp_path / "nowhere", "capture"):
            pass
