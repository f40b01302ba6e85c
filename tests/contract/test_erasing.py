"""What is ordered to be erased goes from the real things with all its copies, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.common.erasure import entries, keys
from services.common.erasure.entries import BrokenLog, EntryKind
from services.common.erasure.erasing import Eraser
from services.common.erasure.ledger import FOLDER, Ledger, report_key
from services.common.erasure.reports import Report, write_report
from services.common.erasure.selection import MOST_IDS, Selection, to_body
from services.common.storage.backends import open_store
from services.common.storage.index import rows
from services.common.storage.index.reading import Index
from services.common.storage.index.rows import IndexRow
from services.common.storage.keys import FaceKey
from services.common.storage.objects import StoreUnavailable, WholeStore
from services.common.storage.s3 import S3Store
from services.common.wire import faces
from services.common.wire.faces import Face
from services.common.wire.topics import Source
from services.store.admission import to_object
from tests.contract.test_store_sweep import NOW, Place, client, place  # noqa: F401 - a fixture
from tests.storing import jpeg

PRIVATE = keys.make().decode()
SIGN, VERIFY = keys.signer(PRIVATE)
FRONT, YARD, DESK = Source("porch", "front"), Source("porch", "yard"), Source("lobby", "desk")
VISIT = "20260131T100000.000000Z-0123456789abcdef"
BEGAN = datetime.fromisoformat("2026-01-31T10:00:00+00:00")
MINUTE = timedelta(minutes=1)


def taken(source: Source, minutes: float, **known: str) -> Face:
    return faces.mint(source, BEGAN + minutes * MINUTE, jpeg(), "image/jpeg", known)


@dataclass
class Site:
    """A store, and who erases from it."""

    store: WholeStore
    eraser: Eraser
    ledger: Ledger

    async def put(self, *items: Face) -> None:
        for face in items:
            await self.store.put(to_object(face))
        by_hour = rows.by_hour(
            IndexRow.of(FaceKey(face.source, face.id, face.content_type), len(face.image), face.extensions)
            for face in items
        )
        for some in by_hour.values():
            body = rows.encode(some)
            await self.store.keep(rows.key_for(rows.sorted_unique(some), body), body)

    async def keys(self) -> set[str]:
        """Whatever copies there are that a face's id is in the name of."""
        return {
            copy.key async for copy in self.store.copies("") if "dt=" in copy.key and "index/" not in copy.key
        }

    async def indexed(self) -> set[str]:
        index = Index(self.store)
        return {
            row.id
            for day in await index.days()
            for hour in await index.hours(day)
            for row in await index.rows(hour)
        }

    async def erase(self, selection: Selection) -> None:
        done = await self.eraser.carry_out(await self.eraser.order(selection))
        assert done.left == 0


@asynccontextmanager
async def opened(place: Place, wait: Callable[[float], object] = lambda _: None) -> AsyncIterator[Site]:  # noqa: F811
    async def waited(seconds: float) -> None:
        found = wait(seconds)
        if asyncio.iscoroutine(found):
            await found

    async with open_store(place.settings) as store:
        await store.verify()
        ledger = Ledger(store, VERIFY)
        yield Site(store, Eraser(store, ledger, SIGN, wait=waited), ledger)


def keys_of(*items: Face) -> set[str]:
    return {to_object(face).key for face in items}


SELECTIONS = {
    "ids": Selection(ids=frozenset({taken(FRONT, 0).id, taken(DESK, 3).id})),
    "ids of a device": Selection(ids=frozenset({taken(FRONT, 0).id, taken(DESK, 3).id}), device="porch"),
    "a visit": Selection(visit=VISIT),
    "a visit of a camera": Selection(visit=VISIT, device="porch", camera="front"),
    "a camera": Selection(device="porch", camera="front", until=NOW),
    "a device": Selection(device="porch", until=NOW),
    "a camera of any device": Selection(camera="desk", until=NOW),
    "a time": Selection(since=BEGAN, until=BEGAN + MINUTE),
    "a time of a device": Selection(device="porch", since=BEGAN, until=BEGAN + 400 * 24 * 60 * MINUTE),
}


async def test_what_is_selected_goes_and_all_else_stays(place: Place) -> None:  # noqa: F811
    items = [
        taken(FRONT, 0, visit=VISIT),
        taken(FRONT, 1, visit=VISIT),
        taken(FRONT, 70),
        taken(YARD, 2, visit=VISIT),
        taken(DESK, 3),
        taken(DESK, 60 * 24),
        taken(FRONT, -60 * 24 * 3),
    ]
    async with opened(place) as site:
        for name, selection in SELECTIONS.items():
            await site.put(*items)
            await see_erased(site, name, selection, items)
        assert await site.eraser.unfinished() == []


async def see_erased(site: Site, name: str, selection: Selection, items: list[Face]) -> None:
    if selection.until is not None:
        selection = replace(selection, until=min(selection.until, NOW))
    going = [face for face in items if selection.takes(face.source, face.id, face.extensions.get("visit"))]
    staying = [face for face in items if face not in going]
    await site.erase(selection)
    assert {key for key in await site.keys() if key.endswith(".jpg")} == keys_of(*staying), name
    for face in going:
        assert not any(face.id in key for key in await site.keys()), name
    for face in staying:
        assert await site.store.get(to_object(face).key) == to_object(face)
    assert await site.indexed() == {face.id for face in staying}, name
    log = (await site.ledger.entries())[-3:]
    assert [entry.kind for entry in log] == [EntryKind.ORDERED, EntryKind.FOUND, EntryKind.ERASED]
    assert log[-1].about["faces"] == len(going) == log[1].about["faces"]
    assert log[-1].about["left"] == 0


async def test_versions_and_marks_of_deletions_go_too(place: Place) -> None:  # noqa: F811
    if place.server is None:
        pytest.skip("a folder keeps no versions")
    one, other, kept = taken(FRONT, 0), taken(FRONT, 1), taken(FRONT, 2)
    async with opened(place) as site, client(place.server) as s3:
        await site.put(one, other, kept)
        for face in (one, kept):
            await s3.put_object(Bucket="faces", Key=f"some/prefix/{to_object(face).key}", Body=b"another")
        await s3.delete_object(Bucket="faces", Key=f"some/prefix/{to_object(other).key}")
        before = [copy.key async for copy in site.store.copies("") if kept.id in copy.key]
        await site.erase(Selection(ids=frozenset({one.id, other.id})))
        assert await site.keys() == keys_of(kept)
        assert [copy.key async for copy in site.store.copies("") if kept.id in copy.key] == before
        current = {entry.key async for entry in site.store.entries("index")}
        assert {copy.key async for copy in site.store.copies("index")} == current


async def test_what_comes_between_two_looks_goes_too(place: Place) -> None:  # noqa: F811
    late = taken(FRONT, 5)
    site: Site

    async def arrive(_seconds: float) -> None:
        await site.put(late)

    async with opened(place, arrive) as site:
        await site.put(taken(FRONT, 0))
        await site.erase(Selection(device="porch", since=BEGAN, until=BEGAN + 10 * MINUTE))
        assert await site.keys() == set()
        assert (await site.ledger.entries())[-1].about["faces"] == 2


async def test_what_a_writer_left_unfinished_goes_and_one_that_lives_writes_anew(place: Place) -> None:  # noqa: F811
    if place.server is not None:
        pytest.skip("an object is there whole or not at all")
    folder = Path(place.settings.store_url.removeprefix("file://"))
    async with opened(place) as site:
        left = folder / ".faceferry" / "tmp" / "0123"
        left.write_bytes(jpeg())
        await site.erase(Selection(device="porch", until=BEGAN))
        assert not left.exists()


async def test_an_order_that_was_cut_short_is_finished(place: Place) -> None:  # noqa: F811
    items = [taken(FRONT, minutes) for minutes in range(6)]
    async with opened(place) as site:
        await site.put(*items)
        order = await site.eraser.order(Selection(device="porch", until=BEGAN + 3 * MINUTE))
        some = [copy async for copy in site.store.copies("") if items[0].id in copy.key]
        await site.store.remove_copies(some)
        assert await site.eraser.unfinished() == [order]
    async with opened(place) as site:
        for each in await site.eraser.unfinished():
            await site.eraser.carry_out(each)
        assert {key for key in await site.keys() if key.endswith(".jpg")} == keys_of(*items[3:])
        assert await site.eraser.unfinished() == []


async def test_several_who_write_into_the_log_write_one_line_after_the_other(place: Place) -> None:  # noqa: F811
    async with opened(place) as first, opened(place) as second:
        abouts = [to_body(Selection(device="porch", until=BEGAN + n * MINUTE)) for n in range(4)]
        sites = [first, second, first, second]
        for pair in (0, 2):
            await asyncio.gather(
                *(sites[n].ledger.append(EntryKind.ORDERED, abouts[n], SIGN, NOW) for n in (pair, pair + 1))
            )
        log = await second.ledger.entries()
        assert [entry.number for entry in log] == [1, 2, 3, 4]
        assert entries.check_log([entry.line for entry in log], VERIFY) == log


async def test_of_two_that_a_server_lets_create_a_line_the_first_has_it(place: Place) -> None:  # noqa: F811
    async with opened(place) as site, opened(place) as late:
        if not isinstance(site.store, S3Store) or not isinstance(late.store, S3Store):
            pytest.skip("a folder lets only one")
        if not await late.store._copies._keeps_versions():
            pytest.skip("only versions tell who was first")
        assert await site.store.create("line", b"first")
        await _write_over(place, b"second")
        assert await late.store._copies.settle("line", b"second") is False
        assert await site.store.fetch("line") == b"first"
        assert await site.store._copies.settle("line", b"first") is True
        # What was there before it was deleted decides nothing any more.
        await site.store.remove("line")
        await _write_over(place, b"third")
        assert await late.store._copies.settle("line", b"third") is None
        assert await site.store.fetch("line") == b"third"


async def _write_over(place: Place, body: bytes) -> None:  # noqa: F811
    """Write as a server does that has looked before whether the key is free."""
    assert place.server is not None
    async with client(place.server) as s3:
        await s3.put_object(Bucket="faces", Key="some/prefix/line", Body=body)


async def test_nothing_is_ordered_on_top_of_a_log_that_was_changed(place: Place) -> None:  # noqa: F811
    if place.server is not None:
        pytest.skip("the same log")
    async with opened(place) as site:
        await site.erase(Selection(device="porch", until=BEGAN))
    path = Path(place.settings.store_url.removeprefix("file://")) / FOLDER / "0000000002.entry"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    async with opened(place) as site:
        with pytest.raises(BrokenLog, match="line 2"):
            await site.eraser.order(Selection(device="porch", until=BEGAN))
    path.unlink()
    async with opened(place) as site:
        with pytest.raises(BrokenLog, match="line 2"):
            await site.eraser.order(Selection(device="porch", until=BEGAN))


async def test_reports_go_into_the_log_once(place: Place) -> None:  # noqa: F811
    async with opened(place) as site:
        order = await site.eraser.order(Selection(device="porch", until=BEGAN))
        report = Report(order.name, "porch", {"waiting": 3})
        await site.store.keep(report_key(report), write_report(report))
        await site.store.keep(f"erasure-reports/{order.name}/lobby.report", write_report(report))
        await site.store.keep(f"erasure-reports/{order.name}/attic.report", b"{}")
        assert await site.eraser.take_reports() == 1
        assert await site.eraser.take_reports() == 0
        assert (await site.ledger.entries())[-1].about == {
            "of": order.name,
            "device": "porch",
            "gone": {"waiting": 3},
        }


async def test_a_visit_with_more_pictures_than_an_order_names_is_ordered_by_its_name(place: Place) -> None:  # noqa: F811
    if place.server is not None:
        pytest.skip("the same order")
    async with opened(place) as site:
        items = [taken(FRONT, minutes / 1000, visit=VISIT) for minutes in range(MOST_IDS + 1)]
        await site.put(*items)
        await site.erase(Selection(visit=VISIT))
        assert await site.keys() == set()


async def test_a_store_that_does_not_answer_leaves_the_order_open(
    place: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened(place) as site:
        await site.put(taken(FRONT, 0))
        order = await site.eraser.order(Selection(device="porch", until=NOW))

        async def fails(_copies: object) -> None:
            raise StoreUnavailable("timeout")

        with monkeypatch.context() as patched:
            patched.setattr(site.store, "remove_copies", fails)
            with pytest.raises(StoreUnavailable):
                await site.eraser.carry_out(order)
        assert await site.eraser.unfinished() == [order]
        await site.eraser.carry_out(order)
        assert await site.keys() == set()
