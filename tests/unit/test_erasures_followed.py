"""Whoever follows the log of erasures knows what was erased, or knows that it does not."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.erasure import entries, keys
from services.common.erasure.entries import EntryKind, LogEntry
from services.common.erasure.ledger import FOLDER, STALE_S, LedgerFollower, name_of
from services.common.erasure.selection import Selection, to_body
from services.common.storage.folder import FolderStore
from services.common.storage.objects import StoreUnavailable

if TYPE_CHECKING:
    from services.common.errors import Refused

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SIGN, VERIFY = keys.signer(keys.make().decode())


def order(previous: LogEntry | None, day: int) -> LogEntry:
    until = datetime(2026, 11, day, tzinfo=UTC)
    return entries.write(
        previous, NOW, EntryKind.ORDERED, to_body(Selection(device="porch", until=until)), SIGN
    )


async def test_lines_are_taken_one_after_the_other_and_none_can_be_hidden(tmp_path: Path) -> None:
    refused: list[Refused] = []
    with FolderStore(tmp_path) as store:
        following = LedgerFollower(store, VERIFY, refused=refused.append)
        first = order(None, 1)
        third = order(order(first, 2), 3)
        for name, line in ((1, first.line), (3, third.line), (9_999_999_999, b"x")):
            await store.keep(f"{FOLDER}/{name_of(name)}", line)
        await store.keep(f"{FOLDER}/zzz", b"x")
        assert await following.look() == [first]
        await store.keep(f"{FOLDER}/{name_of(2)}", first.line)  # one that was written before, again
        assert await following.look() == [third]
        assert [each.reason for each in refused] == ["bad_entry"]
        assert await following.look() == []
        assert list(following.orders.values()) == [first, third]


async def test_who_cannot_read_it_for_a_while_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    with FolderStore(tmp_path) as store:
        following = LedgerFollower(store, VERIFY, clock=lambda: now_s)
        assert following.why_unknown() is not None
        await following.look()
        now_s = STALE_S
        following.check_known()

        async def fails(*_: object, **__: object) -> None:
            raise StoreUnavailable("timeout", "no answer")

        monkeypatch.setattr(store, "first", fails)
        with pytest.raises(StoreUnavailable):
            await following.look()
        following.check_known()
        now_s += 0.001
        with pytest.raises(StoreUnavailable, match="no answer"):
            following.check_known()
