import json
import re
from collections.abc import Sequence
from datetime import timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.runtime.access import Sessions
from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey
from services.common.storage.objects import StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire.faces import Face
from services.gallery.site import arrival_news
from services.store.admission import to_object
from tests.seeing import (
    CAMERAS,
    NOON,
    TOKEN,
    fill,
    note,
    scattered,
    settings_for,
    taken,
    visiting,
    visiting_folder,
)
from tests.storing import jpeg

HTML = {"Accept": "text/html"}
Client = TestClient[Any, Any]


def key_of(face: Face) -> str:
    return to_object(face).key


async def body(client: Client, path: str, status: int = 200) -> str:
    async with client.get(path) as answer:
        assert answer.status == status, path
        return await answer.text()


async def test_the_newest_come_first_with_lazy_images_and_what_they_are(root: Path, client: Client) -> None:
    faces = scattered(100)
    fill(root, faces)
    page = await body(client, "/")
    newest = [key_of(face) for face in reversed(faces)][:60]
    assert re.findall(r'<a href="/face/([^"]+)"><img', page) == newest
    assert page.count('loading="lazy"') == 61  # and the template of those to come
    assert f'alt="Face from {faces[-1].source} at {faces[-1].time:%H:%M:%S}"' in page
    assert "100 faces" in page


async def test_a_face_is_shown_with_all_that_is_known(root: Path, client: Client) -> None:
    face = taken(NOON)
    fill(root, [taken(NOON - timedelta(seconds=1)), face, taken(NOON + timedelta(seconds=1))])
    page = await body(client, f"/face/{key_of(face)}")
    for known in (
        "12:00:00",
        "porch/front",
        "91.2 %",
        "88",
        face.id,
        key_of(face),
        "640 \N{MULTIPLICATION SIGN} 480",
        "px at 1, 2",
    ):
        assert known in page
    assert page.count('rel="prev"') == page.count('rel="next"') == 2


def found_by(root: Path, face: Face, detector: str) -> None:
    """Put down which detector found a stored face."""
    path = (root / key_of(face)).with_suffix(".json")
    about = json.loads(path.read_text())
    about["metadata"]["detector"] = detector
    path.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("detectors", "named", "is_warned_of"),
    [
        (("yunet_n", "centerface", "yunet_n"), "centerface, yunet_n", False),
        (("haar", "haar", ""), "haar", True),
        (("<b>", "x" * 65, "yunet_n"), "yunet_n", False),
        (("", "", ""), None, False),
    ],
)
async def test_the_page_says_which_detector_found_its_faces(
    detectors: Sequence[str], named: str | None, is_warned_of: bool, root: Path, client: Client
) -> None:
    faces = [taken(NOON + timedelta(seconds=10 * number)) for number in range(3)]
    fill(root, faces)
    for face, detector in zip(faces, detectors, strict=True):
        found_by(root, face, detector)
    page = await body(client, "/")
    found = re.search(r"Found by ([^<]*)<", page)
    assert (found and found[1].strip()) == named
    assert ("finds few of the faces" in page) == is_warned_of


async def test_an_image_is_what_is_stored_and_never_a_page(root: Path, client: Client) -> None:
    face = taken(NOON)
    fill(root, [face])
    path = root / key_of(face)
    path.with_suffix(".json").write_text(json.dumps({"content_type": "text/html", "metadata": {}}))
    async with client.get(f"/image/{key_of(face)}") as answer:
        assert await answer.read() == face.image
        assert answer.content_type == "image/jpeg"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_hostile_metadata_is_shown_as_text(root: Path, client: Client) -> None:
    face = taken(NOON)
    fill(root, [face])
    hostile = '<script>alert("x")</script>'
    known = dict.fromkeys(("score", "box", "framesize", "sharpness", "detector", "note"), hostile)
    known[hostile] = "' onmouseover=alert(1) x='"
    about = {"content_type": "image/jpeg", "metadata": known}
    (root / key_of(face)).with_suffix(".json").write_text(json.dumps(about))
    page = await body(client, f"/face/{key_of(face)}")
    assert page.count("&lt;script&gt;alert(") == 7 - 1  # framesize is told with the box alone
    assert "<script>alert" not in page
    assert "&#39; onmouseover" in page


async def test_every_answer_binds_the_browser(root: Path, guarded: Client) -> None:
    fill(root, [taken(NOON)])
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    paths = [
        "/",
        "/devices",
        "/nowhere",
        "/?source=<x>",
        f"/face/{key_of(taken(NOON))}",
        "/static/gallery.js",
    ]
    for headers in (bearer, {}, HTML):
        for path in paths:
            async with guarded.get(path, headers=headers) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_pages_refer_to_nothing_elsewhere(root: Path, client: Client) -> None:
    fill(root, scattered(10))
    face = key_of(scattered(10)[0])
    texts = [await body(client, path) for path in ("/", "/devices", f"/face/{face}")]
    texts += [await body(client, path) for path in ("/static/gallery.css", "/static/gallery.js")]
    for text in texts:
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
        assert not re.search(r"<script>|<style|\son[a-z]+=|\sstyle=", text)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
async def test_without_the_token_all_is_401_and_says_nothing(
    root: Path, guarded: Client, method: str
) -> None:
    face = taken(NOON)
    fill(root, [face])
    paths = [
        "/", "/devices", "/events", "/nowhere", "/static/gallery.js", "/static/icon.svg",
        f"/face/{key_of(face)}", f"/image/{key_of(face)}", f"/object/{key_of(face)}",
    ]  # fmt: skip
    wrong: list[dict[str, str]] = [
        {},
        HTML,
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \udcff"},
        {"Cookie": f"faceferry_gallery={TOKEN}"},
        {"Cookie": "faceferry_gallery=9999999999.0000"},
        {"Cookie": f"faceferry_gallery={Sessions(TOKEN).begin(2e9)}"},
    ]
    for path in paths:
        for headers in wrong:
            async with guarded.request(method, path, headers=headers, allow_redirects=False) as answer:
                text = await answer.text(errors="replace")
                assert answer.status == 401, (path, headers)
                assert "Set-Cookie" not in answer.headers
                for secret in ("porch", face.id, "2026", TOKEN):
                    assert secret not in text


async def test_the_token_opens_the_pages_as_a_bearer_and_after_signing_in(
    root: Path, guarded: Client
) -> None:
    fill(root, [taken(NOON)])
    async with guarded.get("/", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status == 200
    async with guarded.post("/login", data={"token": "wrong"}, allow_redirects=False) as answer:
        assert answer.status == 401
        assert "That is not the token" in await answer.text()
    async with guarded.post("/login", data={"token": TOKEN}, allow_redirects=False) as answer:
        assert answer.status == 303
        cookie = SimpleCookie(answer.headers["Set-Cookie"])["faceferry_gallery"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert TOKEN not in cookie.value
    kept = {"Cookie": f"faceferry_gallery={cookie.value}"}
    async with guarded.get("/", headers=kept) as answer:
        assert answer.status == 200
        assert "porch/front" in await answer.text()


async def sign_in(client: Client) -> dict[str, str]:
    """Return the headers of a browser that has signed in."""
    async with client.post("/login", data={"token": TOKEN}, allow_redirects=False) as answer:
        cookie = SimpleCookie(answer.headers["Set-Cookie"])["faceferry_gallery"]
    client.session.cookie_jar.clear()
    return {"Cookie": f"faceferry_gallery={cookie.value}"}


async def test_signing_out_ends_the_session_wherever_its_cookie_has_gone(root: Path, guarded: Client) -> None:
    fill(root, [taken(NOON)])
    mine, others = await sign_in(guarded), await sign_in(guarded)
    assert mine != others
    async with guarded.get("/events", headers=mine) as events:
        await events.content.readuntil(b"\n\n")
        async with guarded.post("/logout", headers=mine, allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.headers["Clear-Site-Data"] == '"cache", "cookies", "storage"'
            cookie = SimpleCookie(answer.headers["Set-Cookie"])["faceferry_gallery"]
            assert (cookie.value, cookie["max-age"]) == ("", "0")
    for path in ("/", "/events", f"/image/{key_of(taken(NOON))}"):
        async with guarded.get(path, headers=mine) as answer:
            assert answer.status == 401
    async with guarded.get("/", headers=others) as answer:
        assert answer.status == 200


async def test_an_open_page_is_told_nothing_more_after_signing_out(root: Path) -> None:
    with FolderStore(root) as objects:
        async with visiting(objects, settings_for(root, gallery_token=TOKEN)) as (client, context):
            mine = await sign_in(client)
            async with client.get("/events", headers=mine) as events:
                await events.content.readuntil(b"\n\n")
                await (await client.post("/logout", headers=mine, allow_redirects=False)).release()
                context.viewers.tell(arrival_news([FaceKey(CAMERAS[0], taken(NOON).id, "image/jpeg")]))
                assert await events.content.read() == b""


async def test_no_page_and_no_image_is_left_in_a_browser(root: Path, guarded: Client) -> None:
    fill(root, [taken(NOON)])
    mine = await sign_in(guarded)
    key = key_of(taken(NOON))
    for path in ("/", "/devices", f"/face/{key}", f"/image/{key}", f"/object/{key}", "/nowhere"):
        async with guarded.get(path, headers=mine, allow_redirects=False) as answer:
            assert answer.headers["Cache-Control"] == "no-store", path


async def test_behind_tls_the_cookie_stays_there(guarded: Client) -> None:
    proxied = {"X-Forwarded-Proto": "https"}
    async with guarded.post(
        "/login", data={"token": TOKEN}, headers=proxied, allow_redirects=False
    ) as answer:
        assert "Secure" in answer.headers["Set-Cookie"]


async def test_without_a_token_only_this_machines_own_names_are_answered(root: Path, client: Client) -> None:
    fill(root, [taken(NOON)])
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[::ffff:1.2.3.4]", "["):
        async with client.get("/", headers={"Host": host}) as answer:
            assert answer.status == 421
            assert "porch" not in await answer.text()
    for host in ("localhost", "127.0.0.1:8080", "[::1]:80", "LOCALHOST"):
        async with client.get("/", headers={"Host": host}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/face/../../etc/passwd", "/image/..%2f..%2fetc%2fpasswd", "/image/.faceferry/probe",
        "/image/dt=2026-03-14/device=porch/camera=front/x.jpg", "/object/a",
        "/static/..%2fsite.py", "/static/",
        f"/image/{key_of(taken(NOON))}", f"/image/{key_of(taken(NOON))}.json",
        f"/image//{key_of(taken(NOON))}",
        f"/image/{key_of(taken(NOON)).replace('.jpg', '.json')}",
    ],
)  # fmt: skip
async def test_what_is_no_face_in_the_store_is_not_found(client: Client, path: str) -> None:
    assert "Nothing" in await body(client, path, 404) or "nothing here" in await body(client, path, 404)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["source", "day", "before", "after"]),
    value=st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"\d{8}T\d{6}\.\d{6}Z(-\w+)?"),
)
async def test_no_address_breaks_a_page(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    root = tmp_path_factory.mktemp("faces")
    fill(root, [taken(NOON)])
    async with visiting_folder(root) as client, client.get(f"/?{name}={quote(value)}") as answer:
        assert answer.status in (200, 400)
        text = await answer.text()
        assert "<script>" not in text


async def test_cameras_are_shown_with_their_state_last_face_and_hours(root: Path) -> None:
    with FolderStore(root) as objects:
        async with visiting(objects, settings_for(root)) as (client, context):
            fill(root, [taken(NOON)])
            for topic, state in {
                "porch/front": b"online",
                "porch/forward": b"online",
                "attic/a": b"stalled",
            }.items():
                note(context.presence, f"faceferry/{topic}/status", state)
            page = await body(client, "/devices")
    assert 'data-status="porch/front" data-state="online"' in page
    assert 'data-status="attic/a" data-state="stalled"' in page
    assert f'href="/face/{key_of(taken(NOON))}"' in page
    assert "Faces an hour over the last 24 hours" in page


async def test_open_pages_are_told_of_faces_and_of_states(root: Path) -> None:
    face = taken(NOON)
    key = FaceKey(face.source, face.id, face.content_type)
    with FolderStore(root) as objects:
        async with (
            visiting(objects, settings_for(root)) as (client, context),
            client.get("/events") as answer,
        ):
            assert answer.content_type == "text/event-stream"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert await answer.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
            context.viewers.tell(arrival_news([key]))
            event = await answer.content.readuntil(b"\n\n")
            assert event.startswith(b"event: faces\ndata: ")
            told = json.loads(event.partition(b"data: ")[2])
            assert told == [
                {
                    "id": face.id,
                    "key": key_of(face),
                    "source": "porch/front",
                    "day": "2026-03-14",
                    "clock": "12:00:00",
                    "time": "2026-03-14T12:00:00.000000Z",
                }
            ]


async def test_pages_beyond_the_limit_are_told_so(root: Path) -> None:
    async with visiting_folder(root, gallery_max_viewers=1) as client, client.get("/events") as first:
        assert first.status == 200
        assert "too many" in await body(client, "/events", 503)


async def test_a_store_that_cannot_be_read_is_said_and_comes_back(root: Path) -> None:
    class Moody(FolderStore):
        is_down = True

        async def folders(self, folder: str, **bounds: Any) -> list[str]:
            if self.is_down:
                raise StoreUnavailable("throttled", "AKIA-secret")
            return await super().folders(folder, **bounds)

    with Moody(root) as objects:
        async with visiting(objects, settings_for(root)) as (client, context):
            page = await body(client, "/", 503)
            assert "throttled" in page
            assert "AKIA" not in page
            assert context.health.why_not_ready() == "throttled"
            objects.is_down = False
            await body(client, "/")
            assert context.health.why_not_ready() is None


@pytest.mark.usefixtures("bucket")
async def test_the_object_of_a_bucket_is_reached_by_a_link_that_ends(tmp_path: Path) -> None:
    face = taken(NOON)
    async with open_store(ObjectStoreSettings(store_url="s3://faces")) as objects:
        await objects.put(to_object(face))
        async with visiting(objects, settings_for(tmp_path, gallery_link_s=77)) as (client, _sight):
            async with client.get(f"/object/{key_of(face)}", allow_redirects=False) as answer:
                assert answer.status == 303
                assert "X-Amz-Expires=77" in answer.headers["Location"]
            async with client.get(f"/image/{key_of(face)}") as answer:
                assert await answer.read() == jpeg()
            assert str(CAMERAS[0]) in await body(client, "/")


async def test_the_map_of_a_day_shows_when_which_camera_saw_somebody(root: Path, client: Client) -> None:
    faces = scattered(300)
    fill(root, faces)
    page = await body(client, "/day")
    assert re.findall(r'<section class="map-row" aria-label="([^"]+)">', page) == sorted(map(str, CAMERAS))
    labels = re.findall(r'aria-label="(\d\d:\d\d), (\d+) faces?"', page)
    assert sum(int(count) for _, count in labels) == 300
    alone = await body(client, f"/day?source=porch/yard&day={NOON.date()}")
    assert re.findall(r'<section class="map-row" aria-label="([^"]+)">', alone) == ["porch/yard"]
    first = re.search(r'<a href="([^"]+)" data-minutes="(\d+)"', alone)
    assert first is not None
    there = await body(client, first[1].replace("&amp;", "&"))
    yard = [face for face in faces if face.source == CAMERAS[1]]
    assert yard[0].id in there
    assert "No face of attic on this day." in await body(client, f"/day?source=attic&day={NOON.date()}")
    await body(client, "/day?day=nonsense", 400)


async def test_the_map_of_an_empty_store_is_not_there(client: Client) -> None:
    await body(client, "/day", 404)
