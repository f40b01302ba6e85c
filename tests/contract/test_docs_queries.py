"""The queries of docs/index.md on a folder, asked of the real programs."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from services.common.storage.folder import FolderStore
from services.common.wire import faces
from services.common.wire.topics import Source
from services.store.admission import to_object
from tests.storing import TIME, jpeg

PAGE = (Path(__file__).parents[2] / "docs" / "index.md").read_text().partition("## A folder without it")[2]
KNOWN = {
    "box": "10,20,30,40",
    "framesize": "640x480",
    "score": "0.9",
    "detector": "yunet_n",
    "landmarks": "1.5,2,3,4,5,6,7,8,9,10",
}
BARE_FACES = 40
"""More than DuckDB looks at to learn which columns there are."""


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A store in `faces`, in which those come first about which nothing is known."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "faces"
    with FolderStore(root) as store:
        await store.verify()
        for number in range(BARE_FACES):
            await put(store, "a-phone", number, {})
        await put(store, "front", 1, KNOWN)
        await put(store, "front", 2, {**KNOWN, "score": "1"})
        await put(store, "yard", 3, {**KNOWN, "score": "91%", "landmarks": "n/a", "box": "somewhere"})
        yield root


async def put(store: FolderStore, camera: str, number: int, known: dict[str, str]) -> None:
    await store.put(to_object(faces.mint(Source("porch", camera), TIME, jpeg(number), "image/jpeg", known)))


def queries() -> list[str]:
    return [query for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL) for query in block.split(";")]


@pytest.mark.usefixtures("folder")
def test_duckdb_answers_what_people_type_and_numbers_are_numbers() -> None:
    counts, scores = (sorted(duckdb.execute(query).fetchall()) for query in queries()[:2])
    assert counts == [("a-phone", BARE_FACES), ("front", 2), ("yard", 1)]
    assert scores == [
        ("a-phone", None, None, None),
        ("front", pytest.approx(0.95), 30, "yunet_n"),
        ("yard", None, None, "yunet_n"),
    ]


async def test_a_store_from_before_can_be_asked_as_soon_as_it_was_started_anew(folder: Path) -> None:
    mark = (folder / ".faceferry/store").read_bytes()
    (folder / ".faceferry/store").rename(folder / ".faceferry/store.json")
    (folder / ".faceferry/probe.json").write_text('{"content_type": "text/plain", "metadata": {}}')
    with pytest.raises(duckdb.BinderException, match="Hive partition mismatch"):
        duckdb.execute(queries()[0])
    with FolderStore(folder, may_make=False) as store:
        await store.verify()
    assert sum(count for _camera, count in duckdb.execute(queries()[0]).fetchall()) == BARE_FACES + 3
    assert (folder / ".faceferry/store").read_bytes() == mark


@pytest.mark.usefixtures("folder")
def test_a_dataset_of_pyarrow_sees_all_columns() -> None:
    names: dict[str, Any] = {}
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(program, names)  # noqa: S102 - our own page
    table = names["faces"].to_table()
    assert table.num_rows == BARE_FACES + 3
    assert {str(table.schema.field(name).type) for name in ("score", "box", "landmarks")} == {
        "double",
        "list<item: int64>",
        "list<item: double>",
    }
    rows = table.to_pylist()
    assert {row["camera"]: row["box"] for row in rows} == {
        "a-phone": None,
        "front": [10, 20, 30, 40],
        "yard": None,
    }
    assert {row["metadata"]["score"] for row in rows} == {None, "0.9", "1", "91%"}
