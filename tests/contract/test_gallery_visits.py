"""Visits in the gallery and in the list of faces: their best pictures, and what it costs to know them."""

import argparse
import asyncio
import json
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY

from services.commands import faces as faces_command
from services.common.storage import s3_signed
from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey
from services.common.storage.listing import LISTINGS_AT_A_TIME
from services.common.storage.objects import NoSuchObject, StoreUnavailable, WholeStore
from services.common.storage.settings import ObjectStoreSettings
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire.faces import Face
from services.common.wire.topics import Source
from services.gallery import visits as module
from services.gallery.arrivals import MAX_ANNOUNCED, Arrivals
from services.gallery.site import Context, arrival_news
from services.gallery.visits import MOST_LOOKED_AT, NEAR, VisitReader
from services.store.admission import to_object
from tests.seeing import CAMERAS, NOON, ForwardOnly, fill, pictured, settings_for, taken, visit_id, visiting
from tests.support import eventually

Client = TestClient[Any, Any]
VISIT = visit_id(NOON)
LIAR = Source("attic", "front")


@pytest.fixture(params=["folder", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store is."""
    if request.param == "folder":
        return (tmp_path / "faces").as_uri()
    request.getfixturevalue("bucket")
    return "s3://faces/some/prefix"


@pytest.fixture
async def objects(store_url: str) -> AsyncIterator[WholeStore]:
    async with open_store(ObjectStoreSettings(store_url=store_url)) as objects:
        await objects.verify()
        yield objects


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "faces"


class Counted(ForwardOnly):
    """Counts what is asked of metadata, too, and may be told not to answer."""

    asked = 0
    why_not: str | None = None
    is_stuck = False

    async def about(self, key: str) -> Mapping[str, str]:
        self.asked += 1
        if self.is_stuck:
            await asyncio.sleep(60)
        if self.why_not is not None:
            await asyncio.sleep(0.01)
            raise StoreUnavailable(self.why_not)
        return await super().about(key)


async def put(objects: WholeStore, *found: Face) -> None:
    for face in found:
        await objects.put(to_object(face))


@asynccontextmanager
async def looking(objects: WholeStore, root: Path, **others: object) -> AsyncIterator[tuple[Client, Context]]:
    async with visiting(objects, settings_for(root, **others)) as (client, context):
        yield client, context


async def body(client: Client, path: str, status: int = 200) -> str:
    async with client.get(path) as answer:
        assert answer.status == status, path
        return await answer.text()


def key_of(face: Face) -> str:
    return to_object(face).key


def face_key(face: Face) -> FaceKey:
    return FaceKey(face.source, face.id, face.content_type)


def cards(page: str) -> list[dict[str, str]]:
    """What a page shows: the address, the image and the words of each card."""
    found = []
    for card in re.findall(r"<li data-id=.*?</li>", page, re.DOTALL):
        shown = re.sub(r"<span[^>]* hidden>(?:[^<]|<time.*?</time>)*</span>", "", card)
        found.append(
            {
                "address": re.findall(r'<a href="([^"]+)"', card)[0],
                "image": re.findall(r'<img src="/image/([^"]+)"', card)[0],
                "words": " ".join(re.sub(r"<[^>]+>", " ", shown).split()),
            }
        )
    return found


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def shots(*qualities: str, visit: str = VISIT, source: Source = CAMERAS[0], began_s: float = 0) -> list[Face]:
    """Pictures of a visit, ten seconds apart, oldest first."""
    return [
        pictured(visit, at(began_s + 10 * number), quality, str(number + 1), source)
        for number, quality in enumerate(qualities)
    ]


async def test_of_a_visit_the_best_picture_is_shown_and_the_others_lie_behind_it(
    objects: WholeStore, root: Path
) -> None:
    pictures = shots("0.300", "0.812", "0.500")
    alone = taken(at(5), CAMERAS[2])
    await put(objects, *pictures, alone)
    async with looking(objects, root) as (client, _sight):
        assert cards(await body(client, "/")) == [
            {
                "address": f"/visit/{key_of(pictures[2])}",
                "image": key_of(pictures[1]),
                "words": "3 pictures 12:00:00 \N{EN DASH} 12:00:20 porch/front",
            },
            {"address": f"/face/{key_of(alone)}", "image": key_of(alone), "words": "12:00:05 lobby/desk"},
        ]
        behind = await body(client, f"/visit/{key_of(pictures[2])}")
        shown = re.findall(r'<a href="/face/([^"]+)"><img', behind)
        assert shown == [key_of(each) for each in (pictures[1], *reversed(pictures))]
        assert "2026-03-14 12:00:00" in behind
        assert "2026-03-14 12:00:20" in behind
        one = await body(client, f"/face/{key_of(pictures[0])}")
        assert f'href="/visit/{key_of(pictures[0])}"' in one
        assert "/visit/" not in await body(client, f"/face/{key_of(alone)}")
        await body(client, f"/visit/{key_of(alone)}", 404)


async def test_two_visits_and_faces_of_none_stand_in_the_order_of_their_newest(
    objects: WholeStore, root: Path
) -> None:
    first = shots("0.9", "0.1")
    second = shots("0.5", visit=visit_id(at(3), 2), began_s=3)
    plain = [taken(at(1)), taken(at(12))]
    await put(objects, *first, *second, *plain)
    async with looking(objects, root) as (client, _sight):
        shown = [card["image"] for card in cards(await body(client, "/"))]
    assert shown == [key_of(each) for each in (plain[1], first[0], second[0], plain[0])]


async def test_whoever_claims_anothers_visit_stays_by_himself(objects: WholeStore, root: Path) -> None:
    mine = shots("0.2", "0.3")
    lies = [pictured(VISIT, at(5), "1", "7", source) for source in (LIAR, CAMERAS[1])]
    await put(objects, *mine, *lies)
    async with looking(objects, root) as (client, _sight):
        found = {card["address"]: card["image"] for card in cards(await body(client, "/"))}
        assert found[f"/visit/{key_of(mine[1])}"] == key_of(mine[1])
        assert len(found) == 3
        whose = re.findall("device=[a-z]+/camera=[a-z]+", await body(client, f"/visit/{key_of(mine[1])}"))
        assert set(whose) == {"device=porch/camera=front"}
        assert "device=porch" not in await body(client, f"/visit/{key_of(lies[0])}")


@pytest.mark.parametrize(
    ("visit", "shot", "quality"),
    [
        ("<script>alert(1)</script>", "1", "0.5"),
        ("9" * 500, "1", "0.5"),
        ("20260231T000000.000000Z-0000000000000000", "1", "0.5"),
        (VISIT, "9" * 500, "nan"),
        (VISIT, "-1", "1e999"),
        (VISIT, "0x1", "inf"),
        (VISIT, "<b>", "\N{SNOWMAN}"),
        ("99991231T235959.999999Z-0000000000000000", "1", "0.5"),
        ("00010101T000000.000000Z-0000000000000000", "2", "2"),
    ],
)
async def test_what_a_face_says_of_its_visit_breaks_no_page(
    root: Path, visit: str, shot: str, quality: str
) -> None:
    fill(root, [pictured(visit, NOON, quality, shot), pictured(VISIT, at(1), "0.100", "2")])
    with Counted(root) as objects:
        async with looking(objects, root) as (client, _sight):
            page = await body(client, "/")
            assert page.count("<img") in (3, 4)  # one of the top, one of the template
            assert "<script>" not in page
            assert set(re.findall('data-quality="([^"]*)"', page)) <= {"-1", "0.1", "0.5"}
            for card in cards(page):
                text = await body(client, card["address"])
                assert "<script>" not in text
                assert "<b>" not in text


async def test_a_best_picture_is_one_whose_quality_is_a_number(root: Path) -> None:
    honest, boast = pictured(VISIT, at(1), "0.100", "2"), pictured(VISIT, at(2), "9.000", "3")
    fill(root, [honest, boast])
    with Counted(root) as objects:
        async with looking(objects, root) as (client, _sight):
            assert [card["image"] for card in cards(await body(client, "/"))] == [key_of(honest)]


@pytest.mark.parametrize(
    "path",
    [
        "/visit/", "/visit/x", "/visit/..%2f..%2fetc%2fpasswd", f"/visit/{VISIT}", "/visit/.faceferry/probe",
        f"/visit/{key_of(taken(NOON))}", f"/visit/{key_of(taken(NOON))}.json",
    ],
)  # fmt: skip
async def test_an_address_of_no_visit_says_that_there_is_nothing(
    objects: WholeStore, root: Path, path: str
) -> None:
    async with looking(objects, root) as (client, _sight):
        assert "nothing here" in (await body(client, path, 404)).lower()


async def test_over_a_pages_edge_each_page_has_its_own_and_the_visits_page_has_all(
    objects: WholeStore, root: Path
) -> None:
    pictures = shots("0.900", "0.200", "0.400")
    await put(objects, *pictures)
    async with looking(objects, root, gallery_page_faces=2) as (client, _sight):
        newest = await body(client, "/")
        assert [card["image"] for card in cards(newest)] == [key_of(pictures[2])]
        older = re.findall(r'href="(/\?[^"]+before=[^"]+)" rel="next"', newest)[0].replace("&amp;", "&")
        assert [card["image"] for card in cards(await body(client, older))] == [key_of(pictures[0])]
        assert cards(newest)[0]["words"] == "2 pictures 12:00:00 \N{EN DASH} 12:00:20 porch/front"
        whole = await body(client, cards(newest)[0]["address"])
    assert all(key_of(each) in whole for each in pictures)


async def test_over_midnight_each_day_has_its_own_and_the_visits_page_has_both(
    objects: WholeStore, root: Path
) -> None:
    midnight = NOON.replace(hour=0) + timedelta(days=1)
    visit = visit_id(midnight - timedelta(seconds=5))
    before = pictured(visit, midnight - timedelta(seconds=5), "0.4", "1")
    after = pictured(visit, midnight + timedelta(seconds=5), "0.6", "2")
    await put(objects, before, after)
    async with looking(objects, root) as (client, _sight):
        card = cards(await body(client, "/"))[0]
        assert card["words"] == "14 Mar 23:59:55 \N{EN DASH} 00:00:05 porch/front"
        for address in (card["address"], f"/visit/{key_of(before)}"):
            whole = await body(client, address)
            assert re.findall(r'<a href="/face/([^"]+)"><img', whole) == [
                key_of(each) for each in (after, after, before)
            ]


@pytest.mark.parametrize("late_s", [50, 3 * 24 * 3600])
async def test_a_visits_page_reads_a_bounded_number_of_faces_and_says_that_there_are_more(
    root: Path, late_s: float
) -> None:
    first, late = pictured(VISIT, NOON), pictured(VISIT, at(late_s), "0.9", "2")
    crowd = [taken(at(late_s + number / 10 - 0.05), number=number % 50) for number in range(-900, 0)]
    between = pictured(VISIT, at(20), "0.9", "2")
    crowd += [taken(at(number / 10), number=number % 50) for number in range(1, 1_000)]
    fill(root, [first, *crowd, between, late])
    with Counted(root) as objects:
        async with looking(objects, root) as (client, _sight):
            page = await body(client, f"/visit/{key_of(late)}")
        assert objects.asked <= 2 * MOST_LOOKED_AT + 2 * NEAR
        assert objects.requests <= 12
    assert key_of(first) in page
    assert key_of(late) in page
    assert key_of(between) not in page
    assert "Many faces were taken since this visit began" in page


async def test_visits_follow_one_another_also_where_one_lies_in_another(
    root: Path,
) -> None:
    long, inside, later = (visit_id(at(number), number) for number in (0, 10, 40))
    pictures = [
        pictured(long, at(0)),
        pictured(inside, at(10)),
        pictured(inside, at(15), "0.9", "2"),
        pictured(long, at(30), "0.2", "2"),
        taken(at(35)),
        pictured(later, at(40)),
    ]
    fill(root, [*pictures, pictured(visit_id(at(12)), at(12), source=CAMERAS[1])])
    with FolderStore(root) as objects:
        async with looking(objects, root) as (client, _sight):
            here = f"/visit/{key_of(pictures[3])}"
            page = await body(client, here)
            assert adjacent(page) == (f"/face/{key_of(pictures[4])}", f"/visit/{key_of(pictures[2])}")
            assert adjacent(await body(client, f"/visit/{key_of(pictures[2])}")) == (here, None)
            assert adjacent(await body(client, f"/visit/{key_of(pictures[5])}"))[0] is None


def adjacent(page: str) -> tuple[str | None, str | None]:
    """Where a page leads to the newer and the older."""
    found = [re.search(rf'<a href="([^"]+)" rel="{rel}">', page) for rel in ("prev", "next")]
    newer, older = (each[1] if each else None for each in found)
    return newer, older


@contextmanager
def counted_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count the requests that go to a bucket, by kind."""
    asked = {"list": 0, "head": 0, "get": 0}

    def counted(real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def count(*found: Any, **options: Any) -> Any:
            is_head = (options.get("options") or {}).get("head")
            asked["head" if is_head else kind] += 1
            return real(*found, **options)

        return count

    with monkeypatch.context() as patch:
        for name in ("list", "list_with_delimiter_async"):
            patch.setattr(obstore, name, counted(getattr(obstore, name), "list"))
        patch.setattr(s3_signed, "_ask", counted(s3_signed._ask, "list"))
        patch.setattr(obstore, "get_async", counted(obstore.get_async, "get"))
        yield asked


@pytest.mark.usefixtures("bucket")
async def test_a_real_bucket_is_asked_once_for_each_face_of_a_page(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(ObjectStoreSettings(store_url="s3://faces/some/prefix")) as objects:
        for number in range(15):
            visit = visit_id(at(60 * number))
            await put(objects, *shots("0.1", "0.2", "0.4", "0.3", visit=visit, began_s=60 * number))
        async with looking(objects, root) as (client, context):
            with counted_requests(monkeypatch) as first:
                shown = cards(await body(client, "/"))
            await context.counts.close()
            with counted_requests(monkeypatch) as second:
                await body(client, "/")
            with counted_requests(monkeypatch) as visit_page:
                await body(client, shown[0]["address"])
        async with looking(objects, root) as (client, _sight):
            with counted_requests(monkeypatch) as images:
                for card in shown:
                    await body_bytes(client, f"/image/{card['image']}")
            with counted_requests(monkeypatch) as after_images:
                await body(client, "/")
    print(f"first {first}, again {second}, a visit {visit_page}, {len(shown)} images {images}")  # noqa: T201
    assert len(shown) == 15
    assert (first["head"], first["get"]) == (60, 0)
    assert (second["head"], second["get"]) == (0, 0)
    assert (visit_page["head"], visit_page["list"]) == (0, 4)
    assert images == {"list": 0, "head": 0, "get": 15}
    assert after_images["head"] == 45  # what was read with an image is known
    assert max(first["list"], second["list"]) <= 10


async def body_bytes(client: Client, path: str) -> bytes:
    async with client.get(path) as answer:
        return await answer.read()


async def test_many_who_look_at_one_page_ask_for_each_face_hardly_more_than_once(root: Path) -> None:
    fill(root, [face for number in range(10) for face in shots("0.1", "0.2", began_s=100 * number)])
    with Counted(root) as objects:
        async with looking(objects, root) as (client, _sight):
            await asyncio.gather(*(body(client, "/") for _ in range(8)))
        assert 20 <= objects.asked <= 20 + LISTINGS_AT_A_TIME


async def test_what_is_remembered_has_a_bound_and_an_entry_is_small(root: Path) -> None:
    with FolderStore(root) as objects:
        lookup = VisitLookup(objects, most=2_000)
        tracemalloc.start()
        try:
            for number in range(10_000):
                face = pictured(visit_id(at(number), number), at(number), "0.512", "3")
                lookup.note(face_key(face), to_object(face).metadata)
                assert len(lookup) <= 2_000
            kept_bytes = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert len(lookup) == 2_000
    assert kept_bytes / 2_000 < 1_000


async def test_a_page_is_right_where_hardly_anything_is_remembered(root: Path) -> None:
    pictures = shots("0.1", "0.9", "0.5")
    fill(root, pictures)
    keys = [face_key(each) for each in reversed(pictures)]
    with FolderStore(root) as objects:
        visits = VisitReader(objects, VisitLookup(objects, most=1))
        assert [
            [each.key for each in group.pictures] for group in (await visits.group_by_visit(keys)).groups
        ] == [keys]
        for key in keys:
            whole = await visits.whole(key)
            assert whole is not None
            assert [each.key for each in whole.group.pictures] == keys


async def test_what_is_not_a_faces_own_metadata_is_not_remembered(root: Path) -> None:
    face, other = pictured(VISIT, NOON), pictured(VISIT, at(1))
    with FolderStore(root) as objects:
        lookup = VisitLookup(objects)
        for strange in ({}, {"visit": VISIT}, to_object(other).metadata):
            assert lookup.note(face_key(face), strange) is None
        assert len(lookup) == 0


@pytest.mark.parametrize("is_stuck", [True, False])
async def test_where_visits_cannot_be_read_faces_stand_alone_and_that_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_stuck: bool
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    pictures = shots("0.1", "0.9")
    fill(root, [*pictures, *(taken(at(100 + number)) for number in range(40))])
    reason = "timeout" if is_stuck else "throttled"
    before = unread(reason)
    with Counted(root) as objects:
        objects.is_stuck, objects.why_not = is_stuck, "throttled"
        async with looking(objects, root) as (client, context):
            page = await body(client, "/")
            assert len(cards(page)) == 42
            assert "some stand by themselves" in page
            assert unread(reason) == before + 42
            assert objects.asked <= 2 * LISTINGS_AT_A_TIME  # those under way, and who was just let in
            if not is_stuck:
                assert "cannot be read" in await body(client, f"/visit/{key_of(pictures[0])}", 503)
            objects.is_stuck, objects.why_not = False, None
            page = await body(client, "/")
            assert len(cards(page)) == 41
            assert "some stand by themselves" not in page
            assert context.health.why_not_ready() is None


def unread(reason: str) -> float:
    return REGISTRY.get_sample_value("faceferry_gallery_unread_total", {"reason": reason}) or 0.0


async def test_a_face_that_is_gone_or_damaged_harms_no_other(root: Path) -> None:
    pictures = shots("0.1", "0.9", "0.5")
    fill(root, pictures)
    damaged = (root / key_of(pictures[1])).with_suffix(".json")
    for content in (
        "",
        "{",
        "[" * 100_000,
        "1",
        '{"metadata": 1}',
        '{"content_type": "a", "metadata": {"id": 1}}',
    ):
        damaged.write_text(content)
        with FolderStore(root) as objects:
            with pytest.raises(NoSuchObject):
                await objects.about(key_of(pictures[1]))
            with pytest.raises(NoSuchObject):
                await objects.get(key_of(pictures[1]))
            async with looking(objects, root) as (client, _sight):
                assert [card["image"] for card in cards(await body(client, "/"))] == [
                    key_of(pictures[2]),
                    key_of(pictures[1]),
                ]


async def test_what_arrives_is_told_with_its_visit_and_read_once(root: Path) -> None:
    pictures = shots(*["0.5"] * (MAX_ANNOUNCED + 10))
    plain = taken(at(1_000))
    fill(root, [*pictures, plain])
    told: list[str] = []
    with Counted(root) as objects:
        lookup = VisitLookup(objects)
        arrivals = Arrivals(
            objects,
            lambda found: told.append(arrival_news(found, lookup.recall)),
            visits=VisitReader(objects, lookup),
        )
        task = asyncio.create_task(arrivals.run(0.01))
        arrivals.note("porch", [face.id for face in (*pictures, plain)])
        await eventually(lambda: told)
        arrivals.note("porch", [plain.id])
        await eventually(lambda: len(told) == 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert objects.asked == MAX_ANNOUNCED
    news = json.loads(told[0].partition("data: ")[2])
    assert {"visit", "shot", "quality", "began"} & news[-1].keys() == set()
    assert news[0]["visit"] == VISIT
    assert (news[0]["quality"], news[0]["began"]) == (0.5, "2026-03-14T12:00:00.000000Z")


async def listed(capsys: pytest.CaptureFixture[str], store_url: str, *more: str) -> list[str]:
    parser = argparse.ArgumentParser()
    faces_command.add_arguments(parser)
    options = parser.parse_args(["--store", store_url, *more])
    assert await asyncio.to_thread(options.run, options) == 0
    return capsys.readouterr().out.splitlines()


async def test_the_list_has_a_line_a_visit_where_that_is_asked_for_and_a_line_a_face_else(
    objects: WholeStore, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, alone = shots("0.300", "0.812", "0.500"), taken(at(15), CAMERAS[2])
    other = shots("0.7", visit=visit_id(at(-60), 1), began_s=-60)
    await put(objects, *pictures, alone, *other)
    assert await listed(capsys, store_url, "--by-visit") == [
        "2026-03-14 12:00:00.000000 2026-03-14 12:00:20.000000 porch/front    3 0.812 " + key_of(pictures[1]),
        "2026-03-14 12:00:15.000000 2026-03-14 12:00:15.000000 lobby/desk    1     - " + key_of(alone),
        "2026-03-14 11:59:00.000000 2026-03-14 11:59:00.000000 porch/front    1 0.700 " + key_of(other[0]),
    ]
    [first] = [
        json.loads(line) for line in await listed(capsys, store_url, "--by-visit", "--json", "--limit", "1")
    ]
    assert first == {
        "visit": VISIT,
        "began": "2026-03-14T12:00:00+00:00",
        "last": "2026-03-14T12:00:20+00:00",
        "device": "porch",
        "camera": "front",
        "pictures": 3,
        "quality": 0.812,
        "best": key_of(pictures[1]),
    }
    lines = await listed(capsys, store_url)
    newest = pictures[2]
    size = len(newest.image)
    assert lines[0] == f"2026-03-14 12:00:20.000000 porch/front {size:>8} {key_of(newest)}"
    assert len(lines) == 5
    [plain] = [json.loads(line) for line in await listed(capsys, store_url, "--json", "--limit", "1")]
    assert list(plain) == ["id", "time", "device", "camera", "bytes", "key"]
