"""A bucket's rules are written beside those of others, and read back."""

from collections.abc import AsyncIterator

import pytest

from services.common.retention import KEEP_FOREVER, Retention
from services.common.storage import s3_lifecycle
from services.common.storage.locations import Bucket
from services.common.storage.objects import StoreUnavailable
from services.common.storage.s3_client import S3Settings
from tests.bucket_rules import BucketRules

HOME = Bucket("faces", "home")
MONTH = Retention(30)
FOREIGN = (
    "<Rule><ID>logs</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><Tag><Key>a</Key>"
    "<Value>b</Value></Tag></And></Filter><Expiration><Days>3</Days></Expiration></Rule>"
)
EARLY = (
    "<Rule><ID>all</ID><Status>Enabled</Status><Prefix></Prefix>"
    "<Expiration><Days>7</Days></Expiration></Rule>"
)


def configuration(*rules: str) -> str:
    return f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BucketRules]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with BucketRules().running() as server:
        yield server


async def looked(server: BucketRules, retention: Retention = MONTH) -> s3_lifecycle.BucketRules:
    return await s3_lifecycle.read_rules(HOME, S3Settings(server.url), retention)


async def applied(server: BucketRules, retention: Retention = MONTH) -> s3_lifecycle.BucketRules:
    return await s3_lifecycle.apply_rules(HOME, S3Settings(server.url), retention)


@pytest.mark.parametrize("is_versioned", [False, True])
async def test_rules_are_written_once_and_read_back(server: BucketRules, *, is_versioned: bool) -> None:
    server.is_versioned = is_versioned
    before = await looked(server)
    assert before.plan is not None
    assert not before.plan.is_so
    for _ in range(2):
        after = await applied(server)
        assert after.plan is not None
        assert after.plan.is_so
    assert len(server.written) == 1
    assert "<Prefix>home/dt=</Prefix>" in server.rules
    assert ("<NoncurrentDays>1</NoncurrentDays>" in server.rules) == is_versioned
    assert ("<ExpiredObjectDeleteMarker>true" in server.rules) == is_versioned


async def test_rules_of_others_stay_whatever_is_done_to_ours(server: BucketRules) -> None:
    server.rules = configuration(FOREIGN)
    await applied(server)
    assert all(part in server.rules for part in ("logs/", "<Key>a</Key>", "home/dt="))
    await applied(server, Retention(7))
    assert "<Days>7</Days>" in server.rules
    assert "<Days>30</Days>" not in server.rules
    await applied(server, KEEP_FOREVER)
    assert "<Key>a</Key>" in server.rules
    assert "home/dt=" not in server.rules


async def test_forever_leaves_no_rules_where_there_were_ours_alone(server: BucketRules) -> None:
    await applied(server)
    await applied(server, KEEP_FOREVER)
    assert server.rules == ""


async def test_a_server_that_keeps_something_else_than_it_was_given_is_not_believed(
    server: BucketRules,
) -> None:
    server.forgets = "<Days>30</Days>"
    with pytest.raises(StoreUnavailable, match="read back"):
        await applied(server)


async def test_a_server_that_loses_others_rules_is_told_of(server: BucketRules) -> None:
    server.rules = configuration(FOREIGN)
    server.forgets = "<Tag><Key>a</Key><Value>b</Value></Tag>"
    with pytest.raises(StoreUnavailable, match="others have changed"):
        await applied(server)


async def test_a_server_without_rules_is_known_as_such_and_one_that_forbids_is_not(
    server: BucketRules,
) -> None:
    server.refuses = "NotImplemented"
    assert (await looked(server)).plan is None
    server.refuses = "AccessDenied"
    with pytest.raises(StoreUnavailable, match="forbidden"):
        await looked(server)


async def test_locks_and_rules_that_come_first_are_noticed(server: BucketRules) -> None:
    server.rules = configuration(EARLY)
    server.locked_days = 90
    found = await looked(server)
    assert found.locked_days == 90
    assert [clash.partition(":")[0] for clash in found.clashes] == ["all"]
