"""A folder store on real file systems that come and go."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.common.storage import mounts
from services.common.storage.folder import FolderStore
from services.common.storage.objects import (
    ROOM_AFTER_FULL_BYTES,
    ROOM_BYTES,
    StoredObject,
    StoreUnavailable,
)
from tests.disks import Disk, mountable
from tests.storing import images_in, jpeg, names_in


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """A mount point where nothing is mounted yet."""
    with mountable(tmp_path):
        yield tmp_path / "disk"


@pytest.fixture
def disk(point: Path, tmp_path: Path) -> Disk:
    """A mounted ext4."""
    return Disk(point, tmp_path / "disk.img").mount()


@pytest.fixture(params=["", "faces/of/all"])
def root(request: pytest.FixtureRequest, point: Path) -> Path:
    """Where the store lies: the mount point itself, and a folder below it."""
    below: str = request.param
    return point / below


def item(number: int = 0) -> StoredObject:
    return StoredObject(
        f"dt=2026-01-31/device=a/camera=b/{number}.jpg", jpeg(number), "image/jpeg", {"n": "1"}
    )


async def reason(store: FolderStore, room_bytes: int = ROOM_BYTES) -> str | None:
    """What is wrong with a store, by a check."""
    try:
        await store.check(room_bytes)
    except StoreUnavailable as error:
        return error.reason
    return None


async def put_reason(store: FolderStore, number: int) -> str | None:
    try:
        await store.put(item(number))
    except StoreUnavailable as error:
        return error.reason
    return None


async def test_an_unmounted_disk_is_waited_for_and_nothing_is_written_below_it(
    disk: Disk, root: Path
) -> None:
    with FolderStore(root) as store:
        await store.verify()
        await store.put(item(1))
        disk.unmount()
        for _ in range(4):
            assert await reason(store) == "not_mounted"
            assert await put_reason(store, 2) == "not_mounted"
        assert names_in(disk.point) == set()
        disk.mount()
        assert await reason(store) is None
        assert await store.put(item(2))
        assert len(images_in(root)) == 2


async def test_a_disk_is_missed_although_a_copy_of_the_store_lies_below_it(disk: Disk, root: Path) -> None:
    with FolderStore(root) as store:
        await store.verify()
        await store.put(item(1))
        copy = disk.point.with_name("copy")
        shutil.copytree(disk.point, copy)
        disk.unmount()
        shutil.copytree(copy, disk.point, dirs_exist_ok=True)
        before = sorted(disk.point.rglob("*"))
        for _ in range(4):
            assert await reason(store) == "not_mounted"
            assert await put_reason(store, 2) == "not_mounted"
        assert sorted(disk.point.rglob("*")) == before


async def test_another_disk_at_the_same_place_is_used(disk: Disk, root: Path, tmp_path: Path) -> None:
    with FolderStore(root) as store:
        await store.verify()
        await store.put(item(1))
        disk.unmount()
        assert await reason(store) == "not_mounted"
        Disk(disk.point, tmp_path / "other.img").mount()
        await _until_it_works(store)
        assert await store.put(item(1))
        assert len(images_in(root)) == 1


async def test_a_disk_that_is_mounted_over_a_store_is_used_from_then_on(point: Path, tmp_path: Path) -> None:
    root = point / "faces"
    with FolderStore(root) as store:
        await store.verify()
        disk = Disk(point, tmp_path / "disk.img").mount()
        await _until_it_works(store)
        assert await store.put(item(1))
        assert len(images_in(root)) == 1
        disk.unmount()
        assert await reason(store) == "not_mounted"


@pytest.mark.parametrize("link_to", ["faces", "."])
async def test_a_link_to_a_disk_is_followed_to_its_mount_point(
    disk: Disk, tmp_path: Path, link_to: str
) -> None:
    root = tmp_path / "link"
    root.symlink_to(disk.point / link_to)
    with FolderStore(root) as store:
        await store.verify()
        await store.put(item(1))
        disk.unmount()
        for _ in range(4):
            assert await reason(store) == "not_mounted"
        assert names_in(disk.point) == set()


async def test_a_link_that_leads_elsewhere_is_followed(disk: Disk, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "link", tmp_path / "elsewhere"
    root.symlink_to(disk.point)
    elsewhere.mkdir()
    with FolderStore(root) as store:
        await store.verify()
        root.unlink()
        root.symlink_to(elsewhere)
        await _until_it_works(store)
        assert await store.put(item(1))
        assert len(images_in(elsewhere)) == 1


@pytest.mark.parametrize("is_noauto", [False, True])
async def test_a_disk_of_fstab_that_was_never_mounted_is_waited_for(
    root: Path, point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_noauto: bool
) -> None:
    disk = Disk(point, tmp_path / "disk.img")
    fstab = tmp_path / "fstab"
    monkeypatch.setattr(mounts, "FSTAB", fstab)
    options = "noauto" if is_noauto else "defaults"
    fstab.write_text(
        f"# disks\nUUID=1 / ext4 defaults 0 1\nLABEL=faces\t{point}/ ext4 {options},nofail 0 2\n"
    )
    with FolderStore(root) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as caught:
                await store.verify()
            assert caught.value.reason == "not_mounted"
            assert "/etc/fstab" in caught.value.detail
        assert names_in(point) == set()
        disk.mount()
        await store.verify()
        assert await store.put(item(1))


async def test_a_store_that_may_not_be_made_is_waited_for(root: Path, point: Path, tmp_path: Path) -> None:
    disk = Disk(point, tmp_path / "disk.img").mount()
    with FolderStore(root) as store:
        await store.verify()  # once, when the disk is set up
    disk.unmount()
    with FolderStore(root, may_make=False) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="no_store"):
                await store.verify()
        assert names_in(point) == set()
        disk.mount()
        await store.verify()
        assert await store.put(item(1))


async def test_a_removed_folder_is_made_again_at_the_second_look(tmp_path: Path) -> None:
    root = tmp_path / "above" / "faces"
    with FolderStore(root) as store:
        await store.verify()
        await store.put(item(1))
        for removed in (root, root.parent):
            shutil.rmtree(removed)
            assert await put_reason(store, 1) == "removed"
            assert await reason(store) == "removed"
            assert not removed.exists()
            assert await reason(store) is None
            assert await store.put(item(1))
            assert (await store.get(item(1).key)).body == item(1).body


async def test_an_emptied_folder_becomes_a_store_again(disk: Disk) -> None:
    with FolderStore(disk.point) as store:
        await store.verify()
        for path in disk.point.iterdir():
            shutil.rmtree(path)
        assert await put_reason(store, 1) == "changed"
        await _until_it_works(store)
        assert await store.put(item(1))


async def test_replicas_agree_on_a_folder_that_all_of_them_make_again(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    stores = [FolderStore(root) for _ in range(4)]
    await asyncio.gather(*(store.verify() for store in stores))
    for _ in range(5):
        shutil.rmtree(root)
        for _look in range(3):
            await asyncio.gather(*(reason(store) for store in stores))
        assert await asyncio.gather(*(reason(store) for store in stores)) == [None] * 4
        assert [await store.put(item(1)) for store in stores] == [True, False, False, False]
    for store in stores:
        store.__exit__(None, None, None)


async def test_a_mark_that_was_damaged_is_replaced(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        await store.verify()
        (tmp_path / ".faceferry/store").write_bytes(b"\xff{")
        await _until_it_works(store)
        assert await store.put(item(1))
    with FolderStore(tmp_path, may_make=False) as store:
        await store.verify()


async def test_a_store_from_before_there_were_marks_is_taken(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        await store.verify()
        await store.put(item(1))
    (tmp_path / ".faceferry/store").unlink()
    with FolderStore(tmp_path) as store:
        await store.verify()
        assert not await store.put(item(1))


async def test_a_disk_that_became_read_only_is_noticed_without_a_face(disk: Disk) -> None:
    with FolderStore(disk.point) as store:
        await store.verify()
        disk.remount("ro")
        assert await reason(store) == "read_only"
        disk.remount("rw")
        assert await reason(store) is None
        disk.remount("ro")
    with FolderStore(disk.point) as store, pytest.raises(SetupError, match="FACEFERRY_STORE_URL"):
        await store.verify()


async def test_a_folder_that_lets_nobody_in_is_noticed_without_a_face(disk: Disk) -> None:
    root = disk.point / "faces"
    with FolderStore(root) as store:
        await store.verify()
        with disk.protected(root):
            assert await reason(store) == "forbidden"
            with FolderStore(root) as other, pytest.raises(SetupError, match="FACEFERRY_STORE_URL"):
                await other.verify()
        assert await reason(store) is None


async def test_a_full_disk_has_room_for_copies_alone_until_there_is_some(disk: Disk) -> None:
    with FolderStore(disk.point) as store:
        await store.verify()
        await store.put(item(1))
        ballast = disk.fill()
        assert await reason(store) == "full"
        assert await put_reason(store, 2) == "full"
        assert not await store.put(item(1))
        with ballast.open("rb+") as file:
            file.truncate(ballast.stat().st_size - 2 * ROOM_BYTES)
        assert await reason(store) is None
        assert await reason(store, ROOM_AFTER_FULL_BYTES) == "full"
        ballast.unlink()
        assert await reason(store, ROOM_AFTER_FULL_BYTES) is None
        assert await store.put(item(2))
        assert names_in(disk.point / ".faceferry/tmp") == set()


async def test_a_disk_that_was_pulled_out_is_noticed_and_found_again(disk: Disk) -> None:
    with FolderStore(disk.point) as store:
        await store.verify()
        disk.pull_out()
        assert await reason(store) == "io_error"
        assert await put_reason(store, 1) is not None
        disk.unmount()
        assert await reason(store) == "not_mounted"
        disk.mount()
        assert await reason(store) is None
        assert await store.put(item(1))


async def test_a_disk_that_does_not_answer_is_no_store_until_it_does(disk: Disk) -> None:
    with FolderStore(disk.point) as store:
        await store.verify()
        with disk.frozen():
            for _ in range(2):
                assert await reason(store) == "timeout"
        assert await reason(store) is None


async def _until_it_works(store: FolderStore) -> None:
    """Look as often as it may take."""
    assert await reason(store) is not None
    assert await reason(store) is None
