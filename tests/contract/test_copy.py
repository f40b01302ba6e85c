"""`faceferry copy`, between a real folder and a real S3 server."""

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from services.common.storage.backends import open_store
from services.common.storage.objects import StoredObject
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire.faces import Face
from services.store.admission import to_object
from tests.storing import PORCH, face
from tests.support import S3Server, faceferry

BUCKET = "s3://faces/home"
FACES = [face(number) for number in range(40)]


def fill(url: str, faces: Iterable[Face]) -> None:
    async def put() -> None:
        async with open_store(ObjectStoreSettings(store_url=url)) as objects:
            await objects.verify()
            for each in faces:
                await objects.put(to_object(each))

    asyncio.run(put())


def read(url: str, each: Face) -> StoredObject:
    async def get() -> StoredObject:
        async with open_store(ObjectStoreSettings(store_url=url)) as objects:
            item = await objects.get(to_object(each).key)
            assert await objects.about(item.key) == item.metadata
            return item

    return asyncio.run(get())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copied"


@pytest.mark.usefixtures("bucket")
def test_there_and_back_everything_is_as_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(BUCKET, FACES)
    assert faceferry("copy", BUCKET, str(folder)) == 0
    assert faceferry("copy", str(folder), "s3://faces/again") == 0
    assert "40 copied, 0 were there, 0 are damaged" in capsys.readouterr().out
    for url in (folder.as_uri(), "s3://faces/again"):
        assert [read(url, each) for each in FACES] == [to_object(each) for each in FACES]


@pytest.mark.usefixtures("bucket")
def test_what_is_there_is_not_copied_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(folder.as_uri(), FACES)
    fill(BUCKET, FACES[:15])
    assert faceferry("copy", str(folder), BUCKET) == 0
    assert "25 copied, 15 were there" in capsys.readouterr().out
    assert faceferry("copy", str(folder), BUCKET, "--check") == 0
    assert "0 copied, 40 were there" in capsys.readouterr().out


def test_what_is_damaged_is_said_and_not_copied(
    folder: Path, bucket: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(folder.as_uri(), FACES)
    spoilt, lonely = (folder / to_object(each).key for each in FACES[:2])
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"x")
    lonely.with_suffix(".json").unlink()
    assert faceferry("copy", str(folder), BUCKET) == 1
    said = capsys.readouterr()
    assert "38 copied, 0 were there, 2 are damaged" in said.out
    assert str(spoilt.relative_to(folder)) in said.err
    assert not (bucket.folder / "faces/home" / spoilt.relative_to(folder)).exists()


@pytest.mark.usefixtures("bucket")
def test_a_damaged_copy_is_found_when_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(BUCKET, FACES[:3])
    fill(folder.as_uri(), FACES[:3])
    (folder / to_object(FACES[0]).key).write_bytes(b"cut")
    assert faceferry("copy", BUCKET, str(folder)) == 0
    assert faceferry("copy", BUCKET, str(folder), "--check") == 1
    assert to_object(FACES[0]).key in capsys.readouterr().err


def test_a_folder_that_something_else_copied_into_a_bucket_keeps_what_is_known(
    folder: Path, bucket: S3Server
) -> None:
    fill(folder.as_uri(), FACES[:2])
    shutil.copytree(folder, bucket.folder / "faces/home", copy_function=shutil.copyfile)
    item = read(BUCKET, FACES[0])
    assert item == to_object(FACES[0])
    (bucket.folder / "faces/home" / item.key).with_suffix(".json").write_text("{")
    assert "id" not in read(BUCKET, FACES[0]).metadata


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "to"], "there is no folder"),
        ([".", "."], "to itself"),
        (["ftp://a", "b"], "cannot be used"),
    ],
)
def test_what_cannot_be_copied_is_said_in_a_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert faceferry("copy", *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_bucket_that_fails_ends_it_and_the_same_command_goes_on(
    folder: Path, bucket: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.commands.copy.RETRIES", 0)
    fill(folder.as_uri(), FACES)
    bucket.kill()
    assert faceferry("copy", str(folder), BUCKET) == 2
    assert "goes on from here" in capsys.readouterr().err
    bucket.start()
    assert faceferry("copy", str(folder), BUCKET) == 0
    assert [read(BUCKET, each).body for each in FACES] == [each.image for each in FACES]
    assert PORCH.device in to_object(FACES[0]).key
