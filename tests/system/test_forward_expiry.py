"""What the store refuses as too old, when forward's own clock and setting agree and when they do not."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.system.test_forward import face, neighbours, settings, spooled


@pytest.mark.parametrize(
    ("days", "is_kept"),
    [("1", False), ("36500", True), ("forever", True)],
    ids=["agreed", "not", "not asked"],
)
async def test_a_face_goes_for_its_age_only_where_both_sides_say_so(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, days: str, *, is_kept: bool
) -> None:
    given = settings(tmp_path, local, cloud) | {"FACEFERRY_RETAIN_DAYS": days}
    forward = ServiceProcess("forward", tmp_path, given).start()
    try:
        async with neighbours(local, cloud) as (detect, store):
            store.refuses[face(1).id] = "expired"
            await detect.publish([face(1), face(2)])
            await eventually(lambda: len(store.arrived) == 2 and not spooled(tmp_path / "spool"))
        assert forward.metric("faceferry_forward_refused_total") == 1
    finally:
        forward.kill()
    with closing(sqlite3.connect(tmp_path / "spool" / "spool.db")) as connection:
        kept = connection.execute("SELECT id, reason FROM quarantine").fetchall()
    assert kept == ([(face(1).id, "expired")] if is_kept else [])
