import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from services.common.errors import SetupError
from services.common.storage.locations import Bucket
from services.common.storage.objects import PROBE, StoredObject, StoreUnavailable
from services.common.storage.s3 import S3Settings, S3Store, addressing
from services.up.brokers import free_port
from tests.storing import jpeg
from tests.support import S3Server

ITEM = StoredObject("dt=2026-01-31/device=porch/camera=front/a.jpg", jpeg(), "image/jpeg", {"box": "1,2,3,4"})
FACES = Bucket("faces", "some/prefix")


class OddServer:
    """Answers as no well server would."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status = 200
        self.code = ""
        self.is_hanging = False
        self.honours_conditions = False
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        is_conditional = "If-None-Match" in request.headers
        self.requests.append(f"{request.method} {request.path}{' if new' if is_conditional else ''}")
        if self.is_hanging:
            await asyncio.sleep(60)
        if is_conditional and self.honours_conditions:
            return web.Response(status=412)
        body = f"<Error><Code>{self.code}</Code><Message>m</Message></Error>" if self.code else ""
        return web.Response(status=self.status, text=body, headers={"ETag": '"1"'})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def odd() -> AsyncIterator[OddServer]:
    server = OddServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.port).start()
    yield server
    await runner.cleanup()


def open_bucket(url: str, bucket: Bucket = FACES, timeout_s: float = 5.0) -> S3Store:
    return S3Store(bucket, S3Settings(url, timeout_s=timeout_s))


async def failure(store: S3Store) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await store.put(ITEM)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "SlowDown", "throttled"),
        (503, "", "throttled"),
        (429, "", "throttled"),
        (500, "InternalError", "server_error"),
        (403, "AccessDenied", "forbidden"),
        (400, "ExpiredToken", "expired_credentials"),
        (403, "RequestTimeTooSkewed", "clock_skew"),
        (404, "NoSuchBucket", "no_bucket"),
        (409, "ConditionalRequestConflict", "conflict"),
        (301, "PermanentRedirect", "wrong_region"),
        (400, "MalformedXML", "rejected"),
    ],
)
async def test_no_answer_but_a_good_one_is_taken_for_success(
    odd: OddServer, status: int, code: str, reason: str
) -> None:
    odd.status, odd.code = status, code
    error = await failure(open_bucket(odd.url))
    assert error.reason == reason
    assert "test-secret" not in str(error)
    assert len(odd.requests) == 1  # retries are the caller's


async def test_a_server_that_hangs_is_left_after_the_timeout(odd: OddServer) -> None:
    odd.is_hanging = True
    assert (await failure(open_bucket(odd.url, timeout_s=0.3))).reason == "timeout"


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    assert (await failure(open_bucket(f"http://127.0.0.1:{free_port()}"))).reason == "unreachable"


async def test_412_counts_as_stored(odd: OddServer) -> None:
    odd.honours_conditions = True
    store = open_bucket(odd.url)
    await store.verify()
    assert not await store.put(ITEM)
    path = "PUT /faces/some/prefix"
    assert odd.requests == [f"{path}/{PROBE.key}", f"{path}/{PROBE.key} if new", f"{path}/{ITEM.key} if new"]


async def test_where_conditions_are_ignored_objects_are_overwritten(odd: OddServer) -> None:
    store = open_bucket(odd.url)
    await store.verify()
    assert await store.put(ITEM)
    assert not odd.requests[-1].endswith("if new")


async def test_a_conflict_at_the_probe_is_tried_again_not_believed(odd: OddServer) -> None:
    odd.status = 409
    with pytest.raises(StoreUnavailable) as caught:
        await open_bucket(odd.url).verify()
    assert caught.value.reason == "conflict"


async def test_a_real_server_honours_conditions_and_knows_its_buckets(
    s3_program: str, tmp_path: Path
) -> None:
    server = S3Server(s3_program, tmp_path).start()
    server.create_bucket("faces")
    try:
        store = S3Store(FACES, S3Settings(server.url))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", server.key)
            patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
            await store.verify()
            assert store._mode == "create"
            missing = open_bucket(server.url, Bucket("no-such-bucket", ""))
            assert (await failure(missing)).reason == "no_bucket"
            patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
            assert (await failure(open_bucket(server.url))).reason == "forbidden"
        server.kill()
        assert (await failure(store)).reason == "unreachable"
        server.start()
        assert await store.put(ITEM)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("endpoint", "is_path_style", "wanted"),
    [
        (None, None, {"virtual_hosted_style_request": True}),
        (None, True, {"virtual_hosted_style_request": False}),
        ("http://s3:9000", None, {"endpoint": "http://s3:9000", "virtual_hosted_style_request": False}),
        ("https://s3.org", False, {"endpoint": "https://faces.s3.org", "virtual_hosted_style_request": True}),
    ],
)
def test_the_bucket_goes_into_path_or_host_name(
    endpoint: str | None, is_path_style: bool | None, wanted: dict[str, object]
) -> None:
    assert addressing("faces", endpoint, is_path_style=is_path_style) == wanted


async def test_missing_credentials_are_waited_for(monkeypatch: pytest.MonkeyPatch, odd: OddServer) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    assert (await failure(open_bucket(odd.url))).reason == "no_credentials"
    assert odd.requests == []


async def test_credentials_come_from_wherever_botocore_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, odd: OddServer
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text("[cloud]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "cloud")
    assert await open_bucket(odd.url).put(ITEM)


async def test_a_profile_that_does_not_exist_is_the_user_s_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(SetupError, match="no-such-profile"):
        open_bucket("http://127.0.0.1:1")
