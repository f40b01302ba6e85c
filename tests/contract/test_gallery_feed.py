"""The gallery's feeds, as programs read them."""

import base64
import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from aiohttp.test_utils import TestClient

from services.common.wire.faces import Face
from services.gallery.links import Links
from services.store.admission import to_object
from tests.seeing import CAMERAS, NOON, TOKEN, fill, pictured, scattered, taken, visit_id, visiting_folder

Client = TestClient[Any, Any]
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ATOM = "{http://www.w3.org/2005/Atom}"
VISIT = visit_id(NOON)


async def feed_of(client: Client, address: str = "/faces.json") -> dict[str, Any]:
    async with client.get(relative(address), headers=BEARER) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        found: dict[str, Any] = await answer.json()
        return found


async def atom_of(client: Client, address: str = "/faces.atom") -> ET.Element:
    async with client.get(relative(address), headers=BEARER) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/atom+xml"
        return ET.fromstring(await answer.text())  # noqa: S314 - our own


def relative(address: str) -> str:
    """An address without the server, for the test's client knows it."""
    split = urlsplit(address)
    return f"{split.path}?{split.query}" if split.query else split.path


def basic(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'reader:{password}'.encode()).decode()}"}


def a_visit() -> list[Face]:
    return [
        pictured(VISIT, NOON + timedelta(seconds=10 * number), quality, str(number + 1))
        for number, quality in enumerate(["0.300", "0.812", "0.500"])
    ]


async def test_a_visit_is_told_with_its_pictures_the_best_of_them_and_where_it_is(
    root: Path, client: Client
) -> None:
    pictures, alone = a_visit(), taken(NOON + timedelta(hours=1), CAMERAS[2])
    fill(root, [*pictures, alone])
    feed = await feed_of(client)
    assert [visit["visit"] for visit in feed["visits"]] == [None, VISIT]
    assert (feed["day"], feed["missing"], feed["older"], feed["newer"]) == ("2026-03-14", [], None, None)
    visit = feed["visits"][1]
    assert (visit["device"], visit["camera"], visit["best"]) == ("porch", "front", pictures[1].id)
    assert (visit["began"], visit["last"]) == ("2026-03-14T12:00:00.000000Z", "2026-03-14T12:00:20.000000Z")
    assert [(each["shot"], each["quality"]) for each in visit["pictures"]] == [(3, 0.5), (2, 0.812), (1, 0.3)]
    assert [each["key"] for each in visit["pictures"]] == [to_object(face).key for face in reversed(pictures)]
    async with client.get(relative(visit["page"])) as answer:
        assert (await answer.text()).count("<img") >= len(pictures)
    for picture, face in zip(visit["pictures"], reversed(pictures), strict=True):
        async with client.get(relative(picture["image"])) as answer:
            assert await answer.read() == face.image
        async with client.get(relative(picture["page"])) as answer:
            assert face.id in await answer.text()


async def test_whoever_follows_the_feed_meets_every_face_once(root: Path) -> None:
    faces = scattered(100, days=3)
    fill(root, faces)
    found: list[str] = []
    async with visiting_folder(root, gallery_page_faces=7) as client:
        address: str | None = "/faces.json"
        while address is not None:
            feed = await feed_of(client, address)
            found += [picture["id"] for visit in feed["visits"] for picture in visit["pictures"]]
            address = feed["older"]
    assert found == [face.id for face in reversed(faces)]


async def test_the_feed_is_of_the_camera_that_is_named_and_leads_to_its_older_faces(root: Path) -> None:
    faces = scattered(60)
    fill(root, faces)
    mine = [face.id for face in reversed(faces) if face.source == CAMERAS[1]]
    async with visiting_folder(root, gallery_page_faces=5) as client:
        first = await atom_of(client, "/faces.atom?source=porch/yard")
        links = {link.get("rel"): link.get("href", "") for link in first.findall(f"{ATOM}link")}
        second = await atom_of(client, links["next"])
        names = [
            entry.findtext(f"{ATOM}id", "").rpartition("/")[2]
            for feed in (first, second)
            for entry in feed.findall(f"{ATOM}entry")
        ]
        assert names == mine[:10]
        assert links["self"].endswith("/faces.atom?source=porch/yard")
        async with client.get(relative(links["alternate"])) as page:
            assert '<link rel="alternate" type="application/atom+xml"' in await page.text()


async def test_what_the_page_holds_back_the_feed_does_too(root: Path, client: Client) -> None:
    pictures = a_visit()
    fill(root, pictures)
    feed = await feed_of(client, "/faces.json?quality=0.4")
    [visit] = feed["visits"]
    assert [picture["quality"] for picture in visit["pictures"]] == [0.5, 0.812]
    assert (feed["missing"], feed["older"]) == ([], None)


async def test_an_entry_has_what_a_reader_needs(root: Path, guarded: Client) -> None:
    pictures = a_visit()
    fill(root, pictures)
    feed = await atom_of(guarded)
    assert feed.findtext(f"{ATOM}updated") == "2026-03-14T12:00:20.000000Z"
    assert feed.findtext(f"{ATOM}author/{ATOM}name")
    [entry] = feed.findall(f"{ATOM}entry")
    texts = {name: entry.findtext(f"{ATOM}{name}", "") for name in ("id", "title", "published", "updated")}
    assert texts == {
        "id": f"tag:faceferry.example,2026:porch/front/{VISIT}",
        "title": "porch/front, Sat 14 Mar 2026, 12:00:00 UTC",
        "published": "2026-03-14T12:00:00.000000Z",
        "updated": "2026-03-14T12:00:20.000000Z",
    }
    links = {link.get("rel"): link for link in entry.findall(f"{ATOM}link")}
    assert links["enclosure"].get("type") == "image/jpeg"
    content = entry.find(f"{ATOM}content")
    assert content is not None
    assert content.get("type") == "html"
    html = ET.fromstring(f"<div>{content.text}</div>")  # noqa: S314 - our own
    [image] = html.iter("img")
    assert image.get("src") == links["enclosure"].get("href")
    async with guarded.get(relative(image.get("src", ""))) as answer:
        assert await answer.read() == pictures[1].image
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def test_without_faces_there_is_a_feed_without_entries(client: Client) -> None:
    assert (await feed_of(client))["visits"] == []
    assert (await atom_of(client)).findtext(f"{ATOM}updated") == "1970-01-01T00:00:00.000000Z"


async def test_a_link_lets_to_its_image_and_nowhere_else(root: Path, guarded: Client) -> None:
    fill(root, [taken(NOON), taken(NOON + timedelta(seconds=1))])
    feed = await feed_of(guarded)
    one, other = (relative(visit["pictures"][0]["image"]) for visit in feed["visits"])
    path, _, query = one.partition("?")
    until = int(query.partition("until=")[2].partition("&")[0])
    bad = [
        path,
        f"{other.partition('?')[0]}?{query}",
        one.replace(f"until={until}", f"until={until + 1}"),
        one[:-1] + ("0" if one[-1] != "0" else "1"),
        f"/?{query}",
        f"/faces.json?{query}",
        f"{path.replace('/image/', '/face/')}?{query}",
        Links(TOKEN, 60).signed(path, 0.0),
        Links("the token of another gallery", 86_400).signed(path, 1e9 * 4),
        f"{path}?until=9999999999999&signature=x",
        f"{path}?until=%D9%A3&signature=%FF",
    ]
    for address in bad:
        async with guarded.get(address) as answer:
            assert answer.status == 401, address
    async with guarded.get(one) as answer:
        assert answer.status == 200


async def test_a_link_is_good_for_as_long_as_was_said_and_the_same_for_a_while() -> None:
    links = Links(TOKEN, 100)
    for now_s in (0.0, 99.9, 12_345.6):
        path, _, query = links.signed("/image/a", now_s).partition("?")
        values = dict(part.split("=") for part in query.split("&"))
        assert links.admit(path, values, now_s + 100)
        assert not links.admit(path, values, now_s + 200)
    assert links.signed("/image/a", 100) == links.signed("/image/a", 199)


async def test_a_feed_takes_the_token_as_a_password_and_a_page_does_not(root: Path, guarded: Client) -> None:
    fill(root, [taken(NOON)])
    for path in ("/faces.json", "/faces.atom"):
        async with guarded.get(path) as answer:
            assert answer.status == 401
            asked = ", ".join(answer.headers.getall("WWW-Authenticate"))
            assert "Basic" in asked
            assert "Bearer" in asked
        for password, status in ((TOKEN, 200), ("another word", 401)):
            async with guarded.get(path, headers=basic(password)) as answer:
                assert answer.status == status
    async with guarded.get("/", headers=basic(TOKEN)) as answer:
        assert answer.status == 401
        assert "Basic" not in answer.headers["WWW-Authenticate"]


async def test_addresses_are_those_of_the_proxy_before_it_and_stay_text(root: Path, guarded: Client) -> None:
    fill(root, a_visit())
    behind = {**BEARER, "Host": "faces.example.org", "X-Forwarded-Proto": "https"}
    async with guarded.get("/faces.json", headers=behind) as answer:
        [visit] = (await answer.json())["visits"]
    assert visit["page"].startswith("https://faces.example.org/visit/")
    assert visit["pictures"][0]["image"].startswith("https://faces.example.org/image/")
    hostile = {**BEARER, "Host": 'a"><script>b</script>'}
    async with guarded.get("/faces.atom", headers=hostile) as answer:
        feed = ET.fromstring(await answer.text())  # noqa: S314 - our own
    assert f"{ATOM}script" not in {element.tag for element in feed.iter()}
    assert "<script>" not in feed.findtext(f"{ATOM}entry/{ATOM}content", "")


async def test_a_feed_goes_as_gzip_to_whoever_takes_it(root: Path, client: Client) -> None:
    fill(root, scattered(50))
    sizes = {}
    for wanted in ("gzip", "identity", "gzip;q=0, identity"):
        headers = {"Accept-Encoding": wanted}
        async with client.session.get(
            client.make_url("/faces.json"), headers=headers, auto_decompress=False
        ) as answer:
            body = await answer.read()
            assert (answer.headers.get("Content-Encoding") == "gzip") == (wanted == "gzip")
            assert "Accept-Encoding" in answer.headers["Vary"]
        sizes[wanted] = len(body)
        found = json.loads(gzip.decompress(body) if wanted == "gzip" else body)
        assert len(found["visits"]) == 50
    assert sizes["gzip"] < sizes["identity"] / 4
