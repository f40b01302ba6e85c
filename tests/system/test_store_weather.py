"""The store service as a process, before a bucket that is well, then is not, then is again."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common.mqtt import Link
from services.common.wire import faces
from tests.odd_s3 import OddBucket, OddKeys, Reply, error, page
from tests.storing import StoreProcess, face, jpeg, receipted
from tests.support import MosquittoServer, eventually


@pytest.fixture
async def bucket() -> AsyncIterator[OddBucket]:
    async with OddBucket() as server:
        yield server


@pytest.fixture
def store(broker: MosquittoServer, bucket: OddBucket, tmp_path: Path) -> Iterator[StoreProcess]:
    credentials = tmp_path / "credentials"
    write_keys(credentials, "OLD")
    environment = {
        "FACEFERRY_S3_ENDPOINT_URL": bucket.url,
        "FACEFERRY_S3_TIMEOUT_S": "2",
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
    }
    with StoreProcess(broker.url, "s3://faces/home", tmp_path / "store.log", **environment) as store:
        yield store


def write_keys(file: Path, key: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = test-secret\n")


def send(edge: Link, numbers: range) -> None:
    for number in numbers:
        edge.publish(faces.encode_face(face(number)))


def stored(bucket: OddBucket) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: body for path, (body, _) in bucket.objects.items() if "/dt=" in path}


def expected(numbers: range) -> dict[str, bytes]:
    return {f"{face(number).id}.jpg": jpeg(number) for number in numbers}


async def test_what_answers_in_a_bucket_s_place_gets_no_face_receipted(
    bucket: OddBucket, store: StoreProcess, edge: Link
) -> None:
    bucket.manner = lambda _: page(ETag='"65f1c3a2-264"')
    await eventually(lambda: store.problems().get("store") == "bad_answer")
    bucket.manner = None
    await store.until_ready()
    for round_, reply in enumerate(
        (page(ETag='"1"'), Reply(302, {"Location": "/login"}), Reply(204), error(412, "PreconditionFailed"))
    ):
        numbers = range(round_ * 10, round_ * 10 + 10)
        bucket.manner = lambda request, reply=reply: reply if "/dt=" in request.path else None
        send(edge, numbers)
        await eventually(lambda: store.problems() == {"store": "bad_answer"})
        assert store.metric("faceferry_store_receipted_total") == numbers.start
        bucket.manner = None
        assert (await receipted(edge, 10)).ids == {face(number).id for number in numbers}
        assert stored(bucket) == expected(range(numbers.stop))
        await store.until_ready()


async def test_rotated_keys_are_not_even_a_moment_s_trouble(
    bucket: OddBucket, store: StoreProcess, edge: Link, tmp_path: Path
) -> None:
    await store.until_ready()
    send(edge, range(5))
    await receipted(edge, 5)
    write_keys(tmp_path / "credentials", "NEW")
    refused = error(403, "InvalidAccessKeyId")
    bucket.manner = lambda request: refused if request.access_key == "OLD" else None
    send(edge, range(5, 10))
    await receipted(edge, 5)
    assert stored(bucket) == expected(range(10))
    assert [line["event"] for line in store.log].count("store.unavailable") == 0


async def test_a_silent_giver_of_keys_is_told_once_keys_are_wanted(
    broker: MosquittoServer, bucket: OddBucket, tmp_path: Path, edge: Link
) -> None:
    async with OddKeys() as keys:
        keys.odd = Reply(after_s=600)
        environment = {
            "FACEFERRY_S3_ENDPOINT_URL": bucket.url,
            "FACEFERRY_S3_TIMEOUT_S": "1",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{keys.url}/keys",
        }
        log = tmp_path / "silent.log"
        with StoreProcess(broker.url, "s3://faces/home", log, **environment) as store:
            await eventually(lambda: store.problems().get("store") == "no_credentials")
            keys.odd = None
            await store.until_ready()
            send(edge, range(3))
            await receipted(edge, 3)
            assert "Traceback" not in store.output
            assert store.stop() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FACEFERRY_STORE_URL", "file:///srv/a#b"),
        ("FACEFERRY_STORE_URL", "s3://faces/../x"),
        ("FACEFERRY_STORE_URL", "s3://faces//x"),
        ("FACEFERRY_STORE_URL", "file:///srv/caf\udce9"),
        ("FACEFERRY_S3_ENDPOINT_URL", "http://h:99999"),
        ("FACEFERRY_S3_TIMEOUT_S", "inf"),
        ("AWS_ENDPOINT_URL", "http://h?x"),
        ("AWS_DEFAULT_REGION", "a b"),
        ("AWS_PROFILE", "none-such"),
        ("AWS_S3_EXPRESS", "maybe"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_status_2(name: str, value: str, tmp_path: Path) -> None:
    settings = {"FACEFERRY_STORE_URL": "s3://faces/home", name: value}
    store = StoreProcess("mqtt://127.0.0.1:1", log=tmp_path / "log", store_url="", **settings)
    with store:
        assert store.wait() == 2
        (line,) = store.output.splitlines()
        assert name in line or value in line


def test_up_refuses_a_store_that_cannot_be_before_anything_starts(tmp_path: Path) -> None:
    for given in ("file:///srv/a#b", "s3://faces/../x", b"/srv/caf\xe9"):
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "up", "--source", "test://", "--store", given],
            capture_output=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"cannot be used" in done.stderr + done.stdout
