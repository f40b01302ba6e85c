import dataclasses
import errno
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import SetupError
from services.common.storage.folder import OLD_S, FolderStore
from services.common.storage.objects import StoredObject, StoreUnavailable
from tests.storing import images_in, jpeg

ITEM = StoredObject("dt=2026-01-31/device=porch/camera=front/a.jpg", jpeg(), "image/jpeg", {"box": "1,2,3,4"})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    with FolderStore(tmp_path) as store:
        await store.verify()
        yield store


class Disk:
    """The calls that matter for what a power cut leaves, in order, and the failures wanted of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, int] = {}
        for name in ("fsync", "link"):
            monkeypatch.setattr(os, name, self._noted(name, getattr(os, name)))

    def _noted(self, name: str, real: Any) -> Any:
        def call(subject: Any, *more: Any, **how: Any) -> None:
            is_folder = name == "fsync" and Path(f"/proc/self/fd/{subject}").readlink().is_dir()
            self.calls.append(f"{name} {'folder' if is_folder else 'file'}")
            if name in self.errors:
                raise OSError(self.errors[name], os.strerror(self.errors[name]))
            real(subject, *more, **how)

        return call


async def test_an_image_has_its_name_only_once_it_is_durable(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(StoredObject(f"{ITEM.key}-first.jpg", b"", "image/jpeg", {}))  # makes the folders
    disk = Disk(monkeypatch)
    await store.put(ITEM)
    assert disk.calls == ["fsync file", "fsync file", "link file", "fsync folder"]


async def test_a_file_s_time_is_that_of_the_picture(store: FolderStore, tmp_path: Path) -> None:
    for number, (metadata, time_s) in enumerate(
        [
            ({"time": "2026-01-31T23:59:59.000007Z"}, 1_769_903_999.000007),
            ({"time": "1950-01-01T00:00:00.000000Z"}, -631_152_000.0),
            ({"time": "1970-01-01T00:00:05.000000Z", "clock": "unsynchronised"}, None),
            ({"time": "yesterday"}, None),
        ]
    ):
        item = dataclasses.replace(ITEM, key=f"{number}.jpg", metadata=metadata)
        await store.put(item)
        changed_s = (tmp_path / item.key).stat().st_mtime
        assert abs(changed_s - (time.time() if time_s is None else time_s)) < (60 if time_s is None else 1e-4)


async def test_each_new_folder_is_made_durable_up_to_the_root(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    await store.put(ITEM)
    assert disk.calls.count("fsync folder") >= len(Path(ITEM.key).parents)


async def test_what_another_process_linked_is_made_durable_before_it_is_vouched_for(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(ITEM)
    disk = Disk(monkeypatch)
    assert not await store.put(ITEM)
    assert disk.calls == ["fsync folder"]


async def test_a_full_disk_leaves_no_part_of_an_object(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    disk.errors = {"fsync": errno.ENOSPC}
    with pytest.raises(StoreUnavailable) as caught:
        await store.put(ITEM)
    assert caught.value.reason == "full"
    assert images_in(tmp_path) == {}
    assert list((tmp_path / ".faceferry/tmp").iterdir()) == []
    disk.errors = {}
    assert await store.put(ITEM)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
async def test_a_file_system_without_links_will_do(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    Disk(monkeypatch).errors = {"link": error}
    assert await store.put(ITEM)
    assert not await store.put(ITEM)
    assert await store.get(ITEM.key) == ITEM


async def test_a_folder_that_was_removed_under_way_is_made_again(store: FolderStore, tmp_path: Path) -> None:
    await store.put(ITEM)
    day = tmp_path / "dt=2026-01-31"
    day.rename(tmp_path / "gone")
    assert await store.put(ITEM)
    shutil.rmtree(tmp_path / ".faceferry/tmp")
    assert not await store.put(ITEM)
    assert await store.put(dataclasses.replace(ITEM, key=f"{ITEM.key}-other.jpg"))


async def test_only_old_leftovers_are_cleared_away(store: FolderStore, tmp_path: Path) -> None:
    old, young = tmp_path / ".faceferry/tmp/old", tmp_path / ".faceferry/tmp/young"
    for path in (old, young):
        path.write_bytes(b"half an im")
    then = time.time() - OLD_S - 60
    os.utime(old, (then, then))
    await store.verify()
    assert young.exists()
    assert not old.exists()


@pytest.mark.parametrize("path", ["file/faces", "file"])
async def test_a_folder_that_can_never_be_written_is_the_user_s_to_repair(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with FolderStore(tmp_path / path) as store, pytest.raises(SetupError, match="FACEFERRY_STORE_URL"):
        await store.verify()
