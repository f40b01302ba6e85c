"""Faces on a disk are for whoever keeps them, whatever the umask says."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.capture.playback_journal import open_journal
from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.settings import ObjectStoreSettings
from services.forward.spool.database import connect, files
from services.forward.spool.folder import Reserve, prepare
from services.store.admission import to_object
from tests.storing import face

SOMEBODY_ELSE = 54_321
READ_ALL = """
import os, sys
read = []
for where, folders, names in os.walk(sys.argv[1]):
    read += folders
    for name in names:
        try:
            read.append(open(os.path.join(where, name), "rb").read() and name)
        except PermissionError:
            pass
print(len(read))
"""


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["open", "usual", "strict"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root: Path) -> tuple[set[int], set[int]]:
    """The modes of all folders, the root among them, and of all files."""
    everything = [root, *root.rglob("*")]
    return (
        {stat.S_IMODE(path.stat().st_mode) for path in everything if path.is_dir()},
        {stat.S_IMODE(path.stat().st_mode) for path in everything if path.is_file()},
    )


async def keep_a_face(root: Path, **settings: str) -> None:
    async with open_store(
        ObjectStoreSettings.model_validate({"store_url": root.as_uri(), **settings})
    ) as store:
        await store.verify()
        await store.check(65_536)
        assert await store.put(to_object(face()))


@pytest.mark.usefixtures("umask")
async def test_a_stored_face_is_for_whoever_stores_it(tmp_path: Path) -> None:
    await keep_a_face(tmp_path / "made" / "faces")
    assert modes(tmp_path / "made") == ({0o700}, {0o600})


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("mode", "folders"), [("0640", 0o750), ("640", 0o750), ("0664", 0o775), ("0600", 0o700)]
)
async def test_a_setting_lets_others_read(tmp_path: Path, mode: str, folders: int) -> None:
    await keep_a_face(tmp_path / "faces", store_file_mode=mode)
    assert modes(tmp_path / "faces") == ({folders}, {int(mode, 8)})


@pytest.mark.parametrize("mode", ["0777", "0400", "66", "4600", "0888", "-600", "0o600", "\u0660600"])
def test_a_mode_that_cannot_be_meant_is_refused(mode: str) -> None:
    with pytest.raises(ValidationError):
        ObjectStoreSettings(store_url="file:///x", store_file_mode=mode)


async def test_what_is_there_keeps_its_mode_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    root.mkdir(mode=0o755)
    root.chmod(0o2755)  # its group is handed on to what lies in it
    old = root / "dt=2020-01-01"
    old.mkdir()
    old.chmod(0o755)
    (old / "a.jpg").touch()
    (old / "a.jpg").chmod(0o644)
    await keep_a_face(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o2755
    assert stat.S_IMODE(old.stat().st_mode) == 0o755
    assert stat.S_IMODE((old / "a.jpg").stat().st_mode) == 0o644
    assert stat.S_IMODE(next(root.glob("dt=2026*")).stat().st_mode) == 0o2700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_somebody_else_on_the_machine_reads_no_face(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    await keep_a_face(tmp_path / "private")
    await keep_a_face(tmp_path / "shared", store_file_mode="0644")

    def seen(name: str) -> int:
        done = subprocess.run(
            ["/usr/bin/python3", "-c", READ_ALL, tmp_path / name],
            user=SOMEBODY_ELSE,
            group=SOMEBODY_ELSE,
            extra_groups=[],
            cwd="/",
            check=True,
            capture_output=True,
            text=True,
        )
        return int(done.stdout)

    assert seen("shared") >= 4
    assert seen("private") == 0


@pytest.mark.usefixtures("umask")
def test_the_spool_with_all_that_lies_beside_it_is_forwards_alone(tmp_path: Path) -> None:
    spool = tmp_path / "state" / "spool"
    prepare(spool)
    Reserve(spool / "reserve", 4_096).keep()
    database = connect(spool / "spool.db")
    try:
        database.execute("CREATE TABLE more (x)")
        assert all(file.exists() for file in files(spool / "spool.db"))
        assert modes(tmp_path / "state") == ({0o700}, {0o600})
    finally:
        database.close()


@pytest.mark.usefixtures("umask")
def test_a_journal_with_its_ids_is_captures_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with open_journal(path) as journal:
        journal.answer("front", 0, ["an-id"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_folder_of_a_file_system_without_modes_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with FolderStore(tmp_path / "faces", mode=0o640) as store:
        await store.verify()
        assert await store.put(to_object(face()))
