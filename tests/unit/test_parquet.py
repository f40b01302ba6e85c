"""Our Parquet is Parquet to others, and what is no Parquet of ours is said to be none."""

import random
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.parquet import tables
from services.common.parquet.columns import Column, Type
from services.common.parquet.thrift import BadParquet

COLUMNS = (
    Column("id", Type.TEXT),
    Column("time", Type.TIME),
    Column("bytes", Type.INT32),
    Column("known", Type.BOOLEAN),
    Column("quality", Type.DOUBLE, is_optional=True),
    Column("visit", Type.TEXT, is_optional=True),
    Column("shot", Type.INT32, is_optional=True),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-(2**31), 2**31 - 1),
        st.booleans(),
        st.none() | st.floats(allow_nan=False),
        st.none() | TEXTS,
        st.none() | st.integers(0, 1_000),
    ),
    min_size=1,
    max_size=80,
)
Row = tuple[Any, ...]


def written(rows: list[Row], group_rows: int = 16) -> bytes:
    return tables.write(COLUMNS, rows, group_rows, "faceferry test")


def read(data: bytes) -> list[Row]:
    return [
        row
        for group in tables.read_footer(data)
        for row in zip(*(tables.read(column, group, data) for column in COLUMNS), strict=True)
    ]


def some_rows(count: int) -> list[Row]:
    return [
        (f"{n:05}", n * 1_000_000, n, n % 2 == 0, n / 8 if n % 3 else None, f"v{n}" if n % 5 else None, None)
        for n in range(count)
    ]


@given(ROWS)
def test_what_is_written_is_read_again(rows: list[Row]) -> None:
    assert read(written(rows)) == rows


def test_the_same_table_is_the_same_file() -> None:
    assert written(some_rows(100)) == written(some_rows(100))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1_000])
def test_duckdb_reads_each_value_as_it_was_written(tmp_path: Path, count: int) -> None:
    rows = some_rows(count)
    (tmp_path / "a.parquet").write_bytes(written(rows))
    found = duckdb.execute(
        f"SELECT id, epoch_us(time), bytes, known, quality, visit, shot FROM '{tmp_path}/a.parquet'"  # noqa: S608
    )
    assert found.fetchall() == rows
    columns = duckdb.execute(f"DESCRIBE SELECT * FROM '{tmp_path}/a.parquet'").fetchall()  # noqa: S608
    assert [column[1] for column in columns] == [
        *("VARCHAR", "TIMESTAMP WITH TIME ZONE", "INTEGER", "BOOLEAN", "DOUBLE", "VARCHAR", "INTEGER")
    ]


def test_duckdb_is_not_misled_by_what_a_file_says_of_its_groups(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(written(some_rows(1_000)))
    for condition, count in (
        ("id >= '00990'", 10),
        ("id = '00500'", 1),
        ("time < '1970-01-01 00:00:07Z'", 7),
        ("bytes BETWEEN 31 AND 33", 3),
        ("visit = 'v999'", 1),
        ("shot IS NULL", 1_000),
        ("quality IS NULL", 334),
    ):
        found = duckdb.execute(f"SELECT count(*) FROM '{tmp_path}/a.parquet' WHERE {condition}").fetchall()  # noqa: S608
        assert found == [(count,)], condition


def test_a_group_is_read_from_its_own_bytes_alone() -> None:
    data = written(some_rows(100))
    group = tables.read_footer(data)[3]
    part = data[group.start : group.end]
    assert tables.read(COLUMNS[0], group, part, group.start) == [f"{n:05}" for n in range(48, 64)]
    assert (group.first["id"], group.last["id"]) == (b"00048", b"00063")


def test_a_file_that_was_damaged_is_read_right_or_said_to_be_none() -> None:
    rows = some_rows(60)
    data = written(rows)
    footer = tables.footer_bytes(data) + tables.TAIL_BYTES
    rng = random.Random(23)
    is_read = []
    for number in range(3_000):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        # In one half of the tries only in what says where everything is.
        start = max(0, len(damaged) - footer) if number % 2 else 0
        for _ in range(rng.randrange(1, 6) if damaged else 0):
            damaged[rng.randrange(start, len(damaged))] = rng.randrange(256)
        try:
            found = read(bytes(damaged))
        except BadParquet:
            is_read.append(False)
        else:
            assert found == rows
            is_read.append(True)
    assert 50 < sum(is_read) < 500, "some damage is of no account, and most is noticed"


def test_a_column_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.parquet.columns.MOST_BYTES", 1_000)
    data = written([("a" * 10_000, 0, 0, True, None, None, None)])
    with pytest.raises(BadParquet):
        read(data)


def test_what_others_wrote_is_said_to_be_none(tmp_path: Path) -> None:
    duckdb.execute(f"COPY (SELECT '1' AS id) TO '{tmp_path}/a.parquet'")
    for data in (b"", b"PAR1", b"no Parquet at all", (tmp_path / "a.parquet").read_bytes()):
        with pytest.raises(BadParquet):
            read(data)
