import asyncio
import errno
import fcntl
import os
from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.common.runtime import lock


async def test_the_second_stands_by_until_the_first_lets_go(tmp_path: Path) -> None:
    order: list[str] = []

    async def second() -> None:
        async with lock.hold(tmp_path, "spool"):
            order.append("second")

    async with lock.hold(tmp_path, "spool"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(2 * lock.POLL_S)
        order.append("first")
    async with asyncio.timeout(60):
        await waiting
    assert order == ["first", "second"]


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


async def test_nothing_in_the_folder_can_be_deleted_to_get_a_second_lock(tmp_path: Path) -> None:
    (tmp_path / "spool.db").touch()
    async with lock.hold(tmp_path, "spool"):
        empty(tmp_path)
        with lock.try_hold(tmp_path) as is_ours:
            assert not is_ours


async def test_who_waits_for_a_folder_that_is_replaced_gets_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    async with lock.hold(folder, "spool"):
        waiting = asyncio.create_task(lock.hold(folder, "spool").__aenter__())
        await asyncio.sleep(lock.POLL_S / 2)
        folder.rename(tmp_path / "old")
        folder.mkdir()
        async with asyncio.timeout(60):
            await waiting
        with lock.try_hold(folder) as is_ours:
            assert not is_ours


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nowhere"):
        async with lock.hold(tmp_path / "nowhere", "capture"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL])
async def test_a_disk_without_locks_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(SetupError, match=f"cannot be locked.*{os.strerror(number)}"):
        async with lock.hold(tmp_path, "spool"):
            pass
