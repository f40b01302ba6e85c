"""What obstore says of odd answers, word for word as far as anything is read from it.

These are the texts of the minor version that `pyproject.toml` pins. Where one of these fails after an
upgrade, it is `s3_errors.py` that has to learn the new words.
"""

import re
from collections.abc import AsyncIterator

import obstore
import pytest
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
)
from obstore.store import S3Store as Client

from tests.odd_s3 import OddBucket, Reply, error


@pytest.fixture
async def odd() -> AsyncIterator[OddBucket]:
    async with OddBucket() as server:
        yield server


async def put(odd: OddBucket, reply: Reply, mode: str = "overwrite") -> Exception:
    odd.manner = lambda _: reply
    client = Client(
        "bucket",
        config={"endpoint": odd.url, "region": "us-east-1", "access_key_id": "a", "secret_access_key": "b"},
        client_options={"allow_http": True, "timeout": "2s"},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(BaseError) as caught:
        await obstore.put_async(client, "a.jpg", b"a", mode=mode, use_multipart=False)  # type: ignore[arg-type]
    return caught.value


async def test_an_answer_stands_in_the_text_with_status_and_body(odd: OddBucket) -> None:
    found = await put(odd, error(403, "AccessDenied", "first line\n second"))
    assert isinstance(found, PermissionDeniedError)
    pattern = (
        r"status code: 403 \S+: <\?xml.*<Message>first line\n second</Message></Error>\n\nDebug source:\n"
    )
    assert re.search(pattern, str(found))


async def test_what_exists_and_what_conflicts_have_one_class_and_two_statuses(odd: OddBucket) -> None:
    for status in (412, 409, 304):
        found = await put(odd, error(status, "x"), "create")
        assert isinstance(found, AlreadyExistsError)
        assert f"status code: {status} " in str(found)
    assert isinstance(await put(odd, error(412, "x")), PreconditionError)


async def test_a_redirect_is_told_without_its_headers(odd: OddBucket) -> None:
    assert "status code: 307 " in str(await put(odd, Reply(307, {"Location": "http://127.0.0.1:1/"})))
    found = str(await put(odd, error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")))
    assert "redirect without LOCATION" in found
    assert "eu-west-3" not in found


async def test_a_success_without_an_e_tag_is_an_error_of_its_own(odd: OddBucket) -> None:
    for reply in (Reply(), Reply(204), error(200, "InternalError")):
        found = await put(odd, reply)
        assert isinstance(found, GenericError)
        assert "MissingEtag" in str(found)


async def test_rubbish_and_a_cut_answer_differ(odd: OddBucket) -> None:
    assert "Parse(" in str(await put(odd, Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n")))
    for raw in (b"", b'HTTP/1.1 200 OK\r\nETag: "a'):
        assert "IncompleteMessage" in str(await put(odd, Reply(raw=raw)))
    assert "TimedOut" in str(await put(odd, Reply(after_s=30)))
