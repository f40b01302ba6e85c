"""Live pictures with boxes: from capture's viewfinder to the gallery, which does not believe it."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.capture import viewfinder
from services.capture.encoder import JpegEncoder
from services.capture.stream.picture import JpegPicture
from services.capture.viewfinder import Viewfinder
from services.common.errors import Refused
from services.common.runtime.access import Guard
from services.common.wire.frames import Done, decode_done, encode_done
from services.common.wire.outlines import MOST, Outlines
from services.common.wire.topics import Source
from services.gallery import live_client
from services.gallery.live_client import read_places
from tests.seeing import TOKEN, settings_for, visiting_folder
from tests.storing import jpeg

Client = TestClient[Any, Any]
SEEN = Outlines(640, 480, ((10, 20, 30, 40), (-5, 0, 300, 300)))
FRONT = Source("porch", "front")


@given(st.lists(st.tuples(*[st.floats(-1e7, 1e7)] * 4), max_size=100))
def test_outlines_are_read_as_they_were_written_and_bounded(boxes: list[tuple[float, ...]]) -> None:
    outlines = Outlines.of(640, 480, boxes)
    assert len(outlines.boxes) <= MOST
    assert Outlines.read(json.loads(json.dumps(outlines.body))) == outlines
    done = Done(FRONT, 7, ("an id",), next_s=0.5, outlines=outlines)
    assert decode_done(encode_done(done)) == done


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"size": [0, 1], "boxes": []},
        {"size": [1, 1]},
        {"size": [1, 1], "boxes": [[1, 2, 3]]},
        {"size": [1, 1], "boxes": [[1, 2, 3, "4"]]},
        {"size": [1, 1], "boxes": [[1, 2, 3, 4.5]]},
        {"size": [1, 1], "boxes": [[1, 2, 3, True]]},
        {"size": [1, 1], "boxes": [[1, 2, 3, 10**9]]},
        {"size": [1, 1], "boxes": [[1, 2, 3, 4]] * (MOST + 1)},
        {"size": [1, 1], "boxes": "<script>"},
    ],
)
def test_what_is_no_place_of_a_face_is_refused(body: object) -> None:
    with pytest.raises(Refused, match="bad_boxes"):
        Outlines.read(body)


def test_where_captures_are_is_read_or_refused_without_a_word_of_a_password() -> None:
    assert read_places(" porch=http://192.0.2.7:8081,lobby=https://lobby.lan/live,") == {
        "porch": "http://192.0.2.7:8081",
        "lobby": "https://lobby.lan",
    }
    for bad in (
        "porch",
        "porch=ftp://a",
        "Porch=http://a",
        "a=http://u:secret@b",
        "a=http://b?c",
        "a=http://",
    ):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011 - what it says is looked at
            read_places(bad)
        assert "secret" not in str(refusal.value)
        with pytest.raises(ValidationError, match="FACEFERRY_GALLERY_LIVE"):
            settings_for(Path("/"), gallery_live=bad)


@asynccontextmanager
async def capture(finder: Viewfinder) -> AsyncIterator[str]:
    """A capture's viewfinder, and its address."""
    app = web.Application()
    app.add_routes(viewfinder.routes({"front": finder}, Guard(TOKEN), is_loopback=True))
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


@asynccontextmanager
async def odd_capture(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """What answers in the place of a capture."""
    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


async def asked(client: Client, path: str) -> tuple[int, bytes]:
    async with client.get(path) as answer:
        return answer.status, await answer.read()


async def test_a_camera_is_shown_with_boxes_where_its_capture_can_be_reached(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        finder = Viewfinder(JpegEncoder("front", 85, threads))
        async with (
            capture(finder) as url,
            visiting_folder(tmp_path, gallery_live=f"porch={url}", live_token=TOKEN) as client,
        ):
            finder.latest.put(JpegPicture(jpeg(1)), time.monotonic())
            assert await asked(client, "/live/porch/front/now.jpg") == (200, jpeg(1))
            assert await asked(client, "/live/porch/front/now.json") == (200, b"{}")
            finder.saw(SEEN)
            status, body = await asked(client, "/live/porch/front/now.json")
            assert (status, json.loads(body)) == (200, SEEN.body)
            page = (await asked(client, "/live/porch/front"))[1].decode()
            assert 'src="/live/porch/front/now.jpg"' in page
            assert url not in page
            assert TOKEN not in page
            assert await asked(client, "/live/porch/yard/now.jpg") == (503, b"capture knows no such camera\n")
            for path in ("/live/lobby/front", "/live/lobby/front/now.jpg", "/live/porch/%2e%2e/now.jpg"):
                assert (await asked(client, path))[0] == 404
            finder.saw(None)
            assert await asked(client, "/live/porch/front/now.json") == (200, b"{}")


async def test_boxes_that_are_old_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as threads:
        finder = Viewfinder(JpegEncoder("front", 85, threads))
        finder.saw(SEEN)
        assert finder.seen == SEEN
        monkeypatch.setattr(viewfinder, "FRESH_S", -1.0)
        assert finder.seen is None


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("jpg", web.Response(body=b"<html>", content_type="text/html"), "what came is no picture"),
        ("jpg", web.Response(body=b"\xff\xd8\xff" + bytes(3_000)), "what came is too large"),
        ("jpg", web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "something else"),
        ("jpg", web.Response(status=401), "capture wants another token"),
        ("json", web.Response(body=b"[" * 2_000), "what came is no place of a face"),
        ("json", web.Response(body=b'{"size": [1, 1], "boxes": "x"}'), "what came is no place of a face"),
    ],
)
async def test_what_a_capture_answers_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, answer: web.Response, said: str
) -> None:
    monkeypatch.setattr(live_client, "MOST_PICTURE_BYTES", 2_500)

    async def odd(_request: web.Request) -> web.StreamResponse:
        return answer

    async with odd_capture(odd) as url, visiting_folder(tmp_path, gallery_live=f"porch={url}") as client:
        status, body = await asked(client, f"/live/porch/front/now.{kind}")
        assert status == 503
        assert said in body.decode()


async def test_lookers_beyond_the_bound_and_a_capture_that_is_away_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visiting_folder(tmp_path, gallery_live="porch=http://127.0.0.1:1") as client:
        assert await asked(client, "/live/porch/front/now.jpg") == (503, b"capture cannot be reached\n")
        monkeypatch.setattr(live_client, "MOST_AT_ONCE", 0)
        assert await asked(client, "/live/porch/front/now.jpg") == (503, b"too many are looking\n")
    async with visiting_folder(tmp_path) as client:
        assert (await asked(client, "/live/porch/front"))[0] == 404
    async with visiting_folder(
        tmp_path, gallery_live="porch=http://127.0.0.1:1", gallery_token=TOKEN
    ) as client:
        assert (await asked(client, "/live/porch/front/now.jpg"))[0] == 401
