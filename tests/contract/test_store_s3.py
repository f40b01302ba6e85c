"""S3 as it is: servers that want other headers, other regions, or that are no servers of S3 at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import structlog

from services.common.errors import SetupError
from services.common.storage.locations import Bucket
from services.common.storage.objects import PROBE, StoredObject, StoreUnavailable
from services.common.storage.s3 import S3Store
from services.common.storage.s3_client import Encryption, S3Settings, addressing
from services.common.storage.s3_credentials import MOST_REFUSALS
from services.up.brokers import free_port
from tests.odd_s3 import Manner, OddBucket, OddKeys, Reply, Request, error, page, tag
from tests.storing import jpeg
from tests.support import S3Server, eventually

ITEM = StoredObject("dt=2026-01-31/device=porch/camera=front/a.jpg", jpeg(), "image/jpeg", {"box": "1,2,3,4"})
FACES = Bucket("faces", "some/prefix")
PATH = f"/faces/some/prefix/{ITEM.key}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def odd() -> AsyncIterator[OddBucket]:
    async with OddBucket() as server:
        yield server


def open_bucket(
    url: str, bucket: Bucket = FACES, timeout_s: float = 5.0, encryption: Encryption | None = None
) -> S3Store:
    return S3Store(bucket, S3Settings(url, timeout_s=timeout_s, encryption=encryption or Encryption()))


async def verified(odd: OddBucket) -> S3Store:
    store = open_bucket(odd.url)
    await store.verify()
    return store


async def failure(store: S3Store) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await store.put(ITEM)
    return caught.value


async def failed_probe(odd: OddBucket) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await open_bucket(odd.url).verify()
    return caught.value


def holds(odd: OddBucket, item: StoredObject = ITEM) -> bool:
    body, headers = odd.objects.get(PATH, (b"", {}))
    return body == item.body and headers["x-amz-meta-box"] == "1,2,3,4"


def on(method: str, reply: Reply) -> Manner:
    """Requests of this method are answered oddly."""
    return lambda request: reply if request.method == method else None


def where(condition: Callable[[Request], bool], reply: Reply) -> Manner:
    """Writes for which the condition is true are answered oddly."""
    return lambda request: reply if request.method == "PUT" and condition(request) else None


# Errors and their reasons


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
        (409, "OperationAborted", "conflict"),
        (400, "MalformedXML", "rejected"),
        (507, "XMinioStorageFull", "full"),
    ],
)
async def test_no_answer_but_a_good_one_is_taken_for_success(
    odd: OddBucket, status: int, code: str, reason: str
) -> None:
    store = await verified(odd)
    odd.manner = on("PUT", error(status, code))
    before = len(odd.puts)
    found = await failure(store)
    assert found.reason == reason
    assert code in found.detail
    assert len(odd.puts) - before <= 2  # one, and one more whose headers are seen: retries are the caller's


async def test_a_server_that_hangs_is_left_after_the_timeout(odd: OddBucket) -> None:
    odd.manner = lambda _: Reply(after_s=60)
    assert (await failure(open_bucket(odd.url, timeout_s=0.3))).reason == "timeout"


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    assert (await failure(open_bucket(f"http://127.0.0.1:{free_port()}"))).reason == "unreachable"


async def test_the_server_s_own_words_are_told_whole_and_what_signs_is_not(odd: OddBucket) -> None:
    words = "User: arn:aws:iam::1:user/x is not authorized " + "to do what it does " * 40 + "&apos;end&apos;"
    extra = (
        "<AWSAccessKeyId>test-key</AWSAccessKeyId><StringToSign>AWS4-HMAC</StringToSign>"
        "<SignatureProvided>abcdef</SignatureProvided><CanonicalRequest>PUT</CanonicalRequest>"
    )
    odd.manner = on("PUT", error(403, "SignatureDoesNotMatch", f"{words} test-secret", extra))
    found = await failure(open_bucket(odd.url))
    assert found.reason == "forbidden"
    assert f"SignatureDoesNotMatch: {words.replace('&apos;', chr(39))} ***" in found.detail
    for secret in ("test-secret", "test-key", "AWS4-HMAC", "abcdef", "CanonicalRequest"):
        assert secret not in str(found)


@pytest.mark.parametrize(
    "reply",
    [
        error(301, "PermanentRedirect", "Use the endpoint.", x_amz_bucket_region="eu-west-3"),
        error(301, "PermanentRedirect", "x", "<Endpoint>faces.s3.eu-west-3.amazonaws.com</Endpoint>"),
        error(307, "TemporaryRedirect", "x", Location="http://127.0.0.1:1/", x_amz_bucket_region="eu-west-3"),
        error(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-3'",
        ),
        error(400, "AuthorizationHeaderMalformed", "the region is wrong", "<Region>eu-west-3</Region>"),
        error(
            400,
            "AuthorizationHeaderMalformed",
            "unexpected scope: 20260101/a/s3/aws4_request, expected: 20260101/eu-west-3/s3/aws4_request",
        ),
        error(400, "IllegalLocationConstraintException", "wrong", "<Region>eu-west-3</Region>"),
        error(400, "InvalidRegionName", "must be one of", "<Region>eu-west-3</Region>"),
    ],
)
async def test_a_wrong_region_is_called_so_and_the_right_one_is_told(odd: OddBucket, reply: Reply) -> None:
    odd.manner = lambda _: reply
    for found in (await failed_probe(odd), await failure(open_bucket(odd.url))):
        assert found.reason == "wrong_region"
        assert "region eu-west-3" in found.detail


# Headers that some servers want and others refuse


def _wants_checksum(request: Request) -> bool:
    return not request.has_checksum


async def test_a_bucket_with_object_lock_gets_its_checksum(odd: OddBucket) -> None:
    odd.manner = where(
        _wants_checksum, error(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- required")
    )
    assert await (await verified(odd)).put(ITEM)
    assert holds(odd)


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256'"),
        error(400, "InvalidRequest"),
        error(501, "NotImplemented"),
        error(403, "SignatureDoesNotMatch"),
    ],
)
async def test_where_checksums_are_refused_none_are_sent(odd: OddBucket, refusal: Reply) -> None:
    odd.manner = where(lambda request: request.has_checksum, refusal)
    with structlog.testing.capture_logs() as logs:
        store = await verified(odd)
    assert await store.put(ITEM)
    assert holds(odd)
    assert logs[0]["checksum"] == "none"


async def test_a_passing_trouble_does_not_cost_the_checksum(odd: OddBucket) -> None:
    troubles = iter([error(500, "InternalError")])
    odd.manner = lambda _: next(troubles, None)
    assert await (await verified(odd)).put(ITEM)
    assert odd.puts[-1].has_checksum


async def test_a_bucket_that_begins_to_want_checksums_gets_them(
    odd: OddBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd.manner = where(lambda request: request.has_checksum, error(501, "NotImplemented"))
    store = await verified(odd)
    odd.manner = where(_wants_checksum, error(400, "InvalidRequest", "required"))
    assert (await failure(store)).reason == "rejected"
    monkeypatch.setattr("services.common.storage.s3.PROBE_AGAIN_S", 0.0)
    assert (await failure(store)).reason == "rejected"
    assert await store.put(ITEM)


async def test_encryption_is_asked_for_as_set(odd: OddBucket) -> None:
    odd.manner = where(
        lambda request: "x-amz-server-side-encryption" not in request.headers,
        error(403, "AccessDenied", "with an explicit deny in a resource-based policy"),
    )
    found = await failed_probe(odd)
    assert found.reason == "forbidden"
    assert "explicit deny" in found.detail
    store = open_bucket(odd.url, encryption=Encryption("aws:kms", "arn:aws:kms:x:1:key/2", True))
    await store.verify()
    assert await store.put(ITEM)
    said = {name: value for name, value in odd.puts[-1].headers.items() if "encryption" in name}
    assert said == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:x:1:key/2",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
    }


@pytest.mark.parametrize("algorithm", ["AES256", "aws:kms", "aws:kms:dsse"])
async def test_each_encryption_is_asked_for_in_the_words_of_s3(odd: OddBucket, algorithm: str) -> None:
    store = open_bucket(odd.url, encryption=Encryption(algorithm))
    await store.verify()
    assert odd.puts[-1].headers["x-amz-server-side-encryption"] == algorithm


# Conditional writes


@pytest.mark.parametrize(
    "refusal",
    [
        error(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        error(400, "InvalidArgument", "Unsupported header 'if-none-match'"),
        error(400, "InvalidRequest"),
        error(403, "AccessDenied"),
        error(403, "SignatureDoesNotMatch"),
        error(405, "MethodNotAllowed"),
        error(500, "InternalError"),
        error(502, ""),
        Reply(400),
    ],
)
async def test_where_conditions_are_refused_in_any_way_objects_are_overwritten(
    odd: OddBucket, refusal: Reply
) -> None:
    odd.manner = where(lambda request: request.is_conditional, refusal)
    with structlog.testing.capture_logs() as logs:
        store = await verified(odd)
    assert logs[0]["mode"] == "overwrite"
    assert await store.put(ITEM)
    assert await store.put(ITEM)
    assert holds(odd)


async def test_where_conditions_are_ignored_objects_are_overwritten(odd: OddBucket) -> None:
    odd.manner = lambda request: odd.store(request) if request.method == "PUT" else None
    store = await verified(odd)
    assert await store.put(ITEM)
    assert not odd.puts[-1].is_conditional


@pytest.mark.parametrize("status", [412, 304])
async def test_what_the_server_has_already_is_stored(odd: OddBucket, status: int) -> None:
    odd.manner = lambda request: (
        Reply(status)
        if request.method == "PUT" and request.is_conditional and request.path in odd.objects
        else None
    )
    store = await verified(odd)
    assert await store.put(ITEM)
    assert not await store.put(ITEM)
    assert odd.puts[-1].is_conditional


@pytest.mark.parametrize("refusal", [error(412, "PreconditionFailed"), page(412)])
async def test_what_is_said_to_exist_and_does_not_is_written(odd: OddBucket, refusal: Reply) -> None:
    odd.manner = where(lambda request: request.is_conditional, refusal)
    store = await verified(odd)
    assert await store.put(ITEM)
    assert holds(odd)


async def test_a_server_that_says_412_to_everything_stores_nothing(odd: OddBucket) -> None:
    store = await verified(odd)
    odd.manner = on("PUT", page(412))
    assert (await failure(store)).reason == "bad_answer"


async def test_a_damaged_object_in_an_object_s_place_is_written_anew(odd: OddBucket) -> None:
    store = await verified(odd)
    await store.put(ITEM)
    odd.objects[PATH] = (ITEM.body[:100], {})
    assert await store.put(ITEM)
    assert holds(odd)


async def test_a_policy_may_let_nobody_write_without_the_condition(odd: OddBucket) -> None:
    odd.manner = where(lambda request: not request.is_conditional, error(403, "AccessDenied"))
    for is_first in (True, False):
        assert await (await verified(odd)).put(ITEM) is is_first


async def test_a_conflict_at_the_probe_is_tried_again_not_believed(odd: OddBucket) -> None:
    odd.manner = on("PUT", error(409, "ConditionalRequestConflict"))
    assert (await failed_probe(odd)).reason == "conflict"


# A 200 is not a bucket

IMPOSTORS = {
    "a page": page(),
    "a page with an ETag": page(ETag='"65f1c3a2-264"'),
    "nothing but an ETag": Reply(headers={"ETag": '"1"'}),
    "an ETag that is some digest": Reply(headers={"ETag": tag(b"something else")}),
    "200 without an ETag": Reply(),
    "204": Reply(204),
    "an error with 200": error(200, "InternalError"),
    "an error with 200 and an ETag": error(200, "InternalError", ETag='"x"'),
    "JSON": Reply(headers={"ETag": '"1"', "Content-Type": "application/json"}, body=b'{"ok": true}'),
    "a login page elsewhere": Reply(302, {"Location": "http://127.0.0.1:1/login"}),
    "a login page elsewhere, by 303": Reply(303, {"Location": "/login"}),
    "a login page elsewhere, by 307": Reply(307, {"Location": "/login"}),
    "a page that has moved": page(301, Location="https://portal.example/"),
    "a page that is not found": page(404),
    "a page about a bad request": page(400),
    "a network that wants a login": page(511),
    "rubbish": Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "the beginning of an answer": Reply(raw=b'HTTP/1.1 200 OK\r\nETag: "a'),
    "a cut page": Reply(raw=b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nContent-Length: 50\r\n\r\nhalf'),
}


@pytest.mark.parametrize("reply", IMPOSTORS.values(), ids=IMPOSTORS)
async def test_whatever_is_no_bucket_never_counts_as_one(odd: OddBucket, reply: Reply) -> None:
    odd.manner = lambda _: reply
    assert (await failed_probe(odd)).reason == "bad_answer"
    assert (await failure(open_bucket(odd.url))).reason == "bad_answer"


@pytest.mark.parametrize("is_everything", [True, False], ids=["all", "writes"])
@pytest.mark.parametrize("reply", IMPOSTORS.values(), ids=IMPOSTORS)
async def test_a_bucket_that_something_gets_before_for_a_while_loses_nothing(
    odd: OddBucket, reply: Reply, is_everything: bool
) -> None:
    store = await verified(odd)
    odd.manner = (lambda _: reply) if is_everything else on("PUT", reply)
    assert (await failure(store)).reason == "bad_answer"
    assert not odd.objects.get(PATH)
    odd.manner = None
    assert await store.put(ITEM)
    assert holds(odd)


async def test_a_bucket_with_another_s_objects_or_metadata_is_none(odd: OddBucket) -> None:
    odd.manner = on("GET", Reply(headers={"ETag": '"1"'}, body=b"another"))
    assert (await failed_probe(odd)).reason == "bad_answer"
    other = {"ETag": '"1"', "x-amz-meta-type": "another", "Content-Type": "text/plain"}
    odd.manner = on("GET", Reply(headers=other, body=PROBE.body))
    assert (await failed_probe(odd)).reason == "bad_answer"
    odd.manner = on("GET", error(404, "NoSuchKey"))
    assert (await failed_probe(odd)).reason == "bad_answer"


async def test_a_page_without_an_end_is_not_read_to_it(odd: OddBucket) -> None:
    store = await verified(odd)
    length = 1 << 40
    head = f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {length}\r\n\r\n'
    odd.manner = lambda _: Reply(raw=head.encode() + bytes(1_000_000), stays_open=True)
    async with asyncio.timeout(20):
        found = await failure(store)
    assert found.reason == "bad_answer"
    assert "it is not there" in found.detail


async def test_a_server_that_keeps_no_metadata_is_taken_and_said(odd: OddBucket) -> None:
    odd.manner = on("GET", Reply(headers={"ETag": '"1"'}, body=PROBE.body))
    with structlog.testing.capture_logs() as logs:
        assert await (await verified(odd)).put(ITEM)
    lost = next(line for line in logs if line["event"] == "store.metadata_lost")
    assert lost["names"] == ["content-type", "type"]


def _opaque(odd: OddBucket, number: str = "7") -> Manner:
    """ETags that are no digests: encryption by KMS, and gateways to other stores."""

    def manner(request: Request) -> Reply | None:
        reply = odd.answer_well(request)
        return (
            replace(reply, headers={**reply.headers, "ETag": f'"{number}"'}) if reply.status == 200 else reply
        )

    return manner


async def test_where_e_tags_are_no_digests_each_object_is_looked_up(odd: OddBucket) -> None:
    odd.manner = _opaque(odd)
    store = await verified(odd)
    assert await store.put(ITEM)
    assert [request.method for request in odd.requests[-2:]] == ["PUT", "HEAD"]
    odd.manner = lambda request: Reply(headers={"ETag": '"7"'}) if request.method == "PUT" else None
    second = replace(ITEM, key=f"{ITEM.key}.2")
    with pytest.raises(StoreUnavailable, match="bad_answer"):
        await store.put(second)


async def test_an_object_that_was_stored_without_an_e_tag_is_found(odd: OddBucket) -> None:
    def manner(request: Request) -> Reply | None:
        if request.method != "PUT":
            return None
        return replace(odd.store(request), headers={})

    odd.manner = manner
    assert await (await verified(odd)).put(ITEM)
    assert holds(odd)


async def test_who_may_only_write_is_believed_by_digests_alone(odd: OddBucket) -> None:
    denied = error(403, "AccessDenied")
    odd.manner = lambda request: denied if request.method != "PUT" else None
    store = await verified(odd)
    assert await store.put(ITEM)
    assert not await store.put(ITEM)
    opaque = _opaque(odd)
    odd.manner = lambda request: opaque(request) if request.method == "PUT" else denied
    found = await failed_probe(odd)
    assert found.reason == "forbidden"
    assert "s3:GetObject" in found.detail


# Throttling


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", ["1", "date"])
async def test_a_server_that_asks_to_be_left_alone_is(odd: OddBucket, status: int, said: str) -> None:
    store = await verified(odd)
    # By the server's clock, which need not be ours.
    dates = {"Date": "Thu, 01 Jan 1970 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 1970 00:00:01 GMT"}
    headers = dates if said == "date" else {"Retry-After": said}
    odd.manner = on("PUT", Reply(status, headers))
    before = len(odd.puts)
    started = asyncio.get_running_loop().time()
    found = await failure(store)
    assert found.reason == "throttled"
    assert found.retry_after_s == 1.0
    for _ in range(20):
        assert (await failure(store)).reason == "throttled"
    assert len(odd.puts) - before == 2
    odd.manner = None
    while True:
        try:
            await store.put(ITEM)
        except StoreUnavailable:
            await asyncio.sleep(0.02)
        else:
            break
    assert odd.times[-1] - started >= 1.0


async def test_many_writes_that_are_throttled_at_once_cost_one_look(odd: OddBucket) -> None:
    store = await verified(odd)
    odd.manner = on("PUT", Reply(503))
    before = len(odd.puts)
    await asyncio.gather(*(failure(store) for _ in range(16)))
    assert len(odd.puts) - before == 17


async def test_a_look_that_finds_the_server_well_has_stored_the_object(odd: OddBucket) -> None:
    store = await verified(odd)
    troubles = iter([Reply(503)])
    odd.manner = lambda _: next(troubles, None)
    assert await store.put(ITEM)
    assert holds(odd)
    assert odd.puts[-1].headers["x-amz-checksum-sha256"] == odd.puts[-2].headers["x-amz-checksum-sha256"]


# Credentials


async def test_keys_are_asked_for_once(odd: OddBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    async with OddKeys() as keys:
        _use(keys, monkeypatch)
        store = await verified(odd)
        for number in range(5):
            await asyncio.sleep(0.15)  # obstore by itself would not ask more often than this
            assert await store.put(replace(ITEM, key=f"{number}.jpg"))
        assert len(keys.requests) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ExpiredToken", 400),
        ("InvalidAccessKeyId", 403),
        ("InvalidAccessKeyId", 404),
        ("AccessDenied", 403),
        ("SignatureDoesNotMatch", 403),
        ("XAdminUserNotFound", 404),  # versitygw's
    ],
)
async def test_keys_that_are_refused_are_read_again_at_once(
    odd: OddBucket, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    async with OddKeys() as keys:
        _use(keys, monkeypatch)
        store = await verified(odd)
        old = odd.puts[-1].access_key
        odd.manner = _refusing(old, error(status, code))
        assert await store.put(ITEM)
        assert odd.puts[-1].access_key != old


async def test_a_real_server_whose_keys_are_rotated_takes_the_new_ones(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3.create_bucket("faces")
    keys = tmp_path / "keys"
    s3.write_keys(keys)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    store = open_bucket(s3.url)
    await store.verify()
    s3.kill()
    s3.key = "another-key"
    s3.start()
    assert (await failure(store)).reason == "forbidden"
    s3.write_keys(keys)
    assert await store.put(ITEM)


async def test_a_refusal_that_newer_keys_do_not_repair_makes_no_storm(
    odd: OddBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with OddKeys() as keys:
        _use(keys, monkeypatch)
        store = await verified(odd)
        odd.manner = on("PUT", error(403, "InvalidAccessKeyId"))
        reasons = await asyncio.gather(*(failure(store) for _ in range(20)))
        assert {found.reason for found in reasons} == {"forbidden"}
        for _ in range(20):
            await failure(store)
        assert len(keys.requests) <= 1 + MOST_REFUSALS


async def test_a_rotated_file_is_noticed_at_the_first_refusal(
    odd: OddBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = _credentials_file(monkeypatch, tmp_path, "OLD")
    store = await verified(odd)
    assert odd.puts[-1].access_key == "OLD"
    file.write_text(file.read_text().replace("OLD", "NEW"))
    odd.manner = _refusing("OLD", error(403, "InvalidAccessKeyId"))
    assert await store.put(ITEM)
    assert odd.puts[-1].access_key == "NEW"


@pytest.mark.parametrize("reply", [Reply(after_s=60), Reply(500)], ids=["silent", "failing"])
async def test_while_the_keys_in_hand_are_good_nobody_waits_for_others(
    odd: OddBucket, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    async with OddKeys(lifetime_s=3600) as keys:
        _use(keys, monkeypatch)
        store = open_bucket(odd.url, timeout_s=20)
        await store.verify()
        keys.odd = reply
        store._requests._credentials._renew_from = 0.0
        for number in range(3):
            async with asyncio.timeout(15):
                assert await store.put(replace(ITEM, key=f"{number}.jpg"))
        await store.__aexit__(None, None, None)


async def test_silence_where_keys_are_wanted_is_told_within_the_timeout(
    odd: OddBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with OddKeys() as keys:
        _use(keys, monkeypatch)
        keys.odd = Reply(after_s=60)
        async with asyncio.timeout(10):
            found = await failure(open_bucket(odd.url, timeout_s=0.5))
        assert found.reason == "no_credentials"
        assert odd.requests == []


async def test_missing_credentials_are_waited_for(monkeypatch: pytest.MonkeyPatch, odd: OddBucket) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    assert (await failure(open_bucket(odd.url))).reason == "no_credentials"
    assert odd.requests == []


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("value", ["a\n", "a b", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
async def test_keys_that_no_header_can_carry_are_told_not_sent(
    monkeypatch: pytest.MonkeyPatch, odd: OddBucket, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    found = await failure(open_bucket(odd.url))
    assert found.reason == "no_credentials"
    assert odd.requests == []


async def test_credentials_come_from_wherever_botocore_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, odd: OddBucket
) -> None:
    _credentials_file(monkeypatch, tmp_path, "A")
    assert await open_bucket(odd.url).put(ITEM)


@pytest.mark.parametrize("program", ["sleep 600", "echo x", "/nonexistent", "false", "echo {}"])
async def test_a_program_that_gives_no_keys_is_told_and_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, odd: OddBucket, program: str
) -> None:
    file = _credentials_file(monkeypatch, tmp_path, "A")
    file.write_text(f"[cloud]\ncredential_process = {program}\n")
    children = set(psutil.Process().children())
    async with asyncio.timeout(20):
        found = await failure(open_bucket(odd.url, timeout_s=0.5))
    assert found.reason == "no_credentials"
    await eventually(lambda: not any(child.is_running() for child in _running(children)), 5)


async def test_a_program_may_give_the_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, odd: OddBucket
) -> None:
    file = _credentials_file(monkeypatch, tmp_path, "A")
    (tmp_path / "keys").write_text('{"Version": 1, "AccessKeyId": "P", "SecretAccessKey": "test-secret"}')
    file.write_text(f"[cloud]\ncredential_process = cat {tmp_path}/keys\n")
    assert await open_bucket(odd.url).put(ITEM)
    assert odd.puts[-1].access_key == "P"


@pytest.mark.parametrize(
    "content",
    [b"", b"[cloud]\naws_access_key_id = a\n", b"\xff\xfe", b"aws_access_key_id = a\n", b"[cloud\n"],
)
async def test_a_file_that_is_being_written_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, odd: OddBucket, content: bytes
) -> None:
    file = _credentials_file(monkeypatch, tmp_path, "A")
    store = open_bucket(odd.url)
    whole = file.read_bytes()
    file.write_bytes(content)
    assert (await failure(store)).reason == "no_credentials"
    file.write_bytes(whole)
    assert await store.put(ITEM)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, body=b"boom"),
        Reply(body=b"<html>"),
        Reply(body=b"{}"),
        Reply(body=b"[]"),
        Reply(body=b"null"),
        Reply(body=b'{"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "t", "Expiration": "soon"}'),
        Reply(
            body=b'{"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "t", "Expiration": "2001-01-01T0Z"}'
        ),
        Reply(body=b'{"AccessKeyId": 1, "SecretAccessKey": 2, "Token": 3, "Expiration": 4}'),
        Reply(raw=b"SSH-2.0\r\n"),
    ],
)
async def test_whoever_gives_no_keys_ends_no_service(
    monkeypatch: pytest.MonkeyPatch, odd: OddBucket, reply: Reply
) -> None:
    async with OddKeys() as keys:
        _use(keys, monkeypatch)
        keys.odd = reply
        found = await failure(open_bucket(odd.url))
        assert found.reason == "no_credentials"
        assert len(found.detail.splitlines()) == 1


async def test_a_profile_that_does_not_exist_is_the_user_s_to_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(SetupError, match="no-such-profile"):
        open_bucket("http://127.0.0.1:1")


def _use(keys: OddKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{keys.url}/keys")


def _credentials_file(monkeypatch: pytest.MonkeyPatch, folder: Path, key: str) -> Path:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = folder / "credentials"
    file.write_text(f"[cloud]\naws_access_key_id = {key}\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "cloud")
    return file


def _running(before: set[psutil.Process]) -> list[psutil.Process]:
    return [child for child in set(psutil.Process().children()) - before if child.name() == "sleep"]


def _refusing(access_key: str, reply: Reply) -> Manner:
    return lambda request: reply if request.access_key == access_key else None


# The real thing


async def test_a_real_server_honours_conditions_and_knows_its_buckets(bucket: S3Server) -> None:
    store = open_bucket(bucket.url)
    with structlog.testing.capture_logs() as logs:
        await store.verify()
    assert {
        "mode": "create",
        "checksum": "sha256",
        "checked_by": "digest",
        "is_readable": True,
    }.items() <= (logs[0].items())
    missing = open_bucket(bucket.url, Bucket("no-such-bucket", ""))
    assert (await failure(missing)).reason == "no_bucket"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        assert (await failure(open_bucket(bucket.url))).reason == "forbidden"
    bucket.kill()
    assert (await failure(store)).reason == "unreachable"
    bucket.start()
    assert await store.put(ITEM)
    assert not await store.put(ITEM)


async def test_a_real_server_takes_what_is_sent_to_look_at_the_answer(bucket: S3Server) -> None:
    odd_item = replace(ITEM, metadata={"odd": '"quotes" & <angles>; %20'})
    for prefix in ("", "a b/\N{LATIN SMALL LETTER U WITH DIAERESIS}=1+2&c"):
        store = open_bucket(bucket.url, Bucket("faces", prefix))
        answer = await store._requests.put_with_answer(odd_item, store._way)
        assert answer is not None
        assert (answer.status, answer.headers["etag"]) == (200, tag(odd_item.body))
        assert await store.get(odd_item.key) == odd_item


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
