import asyncio
import threading

import pytest

from services.common.storage.objects import StoreUnavailable
from services.common.storage.s3_credentials import (
    MOST_REFUSALS,
    REFUSALS_WITHIN_S,
    STATIC_FOR_S,
    STATIC_REFUSALS_WITHIN_S,
    AccessKeys,
    CredentialKeeper,
    FoundKeys,
)

HOUR_S = 3600.0
DENIED = StoreUnavailable("no_credentials", "denied")


class Giver:
    """Gives other keys each time, or raises, or is silent."""

    def __init__(self, lifetime_s: float | None = HOUR_S) -> None:
        self.lifetime_s = lifetime_s
        self.asked = 0
        self.trouble: StoreUnavailable | None = None
        self.speaks = threading.Event()
        self.speaks.set()
        self.is_same = False
        self.now = 1_000.0

    def __call__(self, timeout_s: float) -> FoundKeys:
        self.asked += 1
        number = 1 if self.is_same else self.asked
        self.speaks.wait(timeout_s)
        if self.trouble is not None:
            raise self.trouble
        return FoundKeys(AccessKeys(f"key-{number}", "secret", "token"), self.lifetime_s)

    def keeper(self, timeout_s: float = 5.0) -> CredentialKeeper:
        return CredentialKeeper(timeout_s, self, lambda: self.now)


async def settled(keeper: CredentialKeeper) -> None:
    assert keeper._finding is not None
    await asyncio.wait({keeper._finding})


async def test_keys_are_found_once_however_many_want_them() -> None:
    giver = Giver()
    keeper = giver.keeper()
    found = await asyncio.gather(*(keeper.current() for _ in range(32)))
    giver.now += HOUR_S / 2
    assert {*found, await keeper.current()} == {AccessKeys("key-1", "secret", "token")}
    assert giver.asked == 1


@pytest.mark.parametrize("lifetime_s", [120.0, HOUR_S, 12 * HOUR_S])
async def test_the_next_keys_are_there_before_the_last_have_expired(lifetime_s: float) -> None:
    giver = Giver(lifetime_s)
    keeper = giver.keeper()
    await keeper.current()
    giver.now += lifetime_s - min(600.0, lifetime_s / 4) + 1
    assert (await keeper.current()).access_key_id == "key-1"  # nobody waits
    await settled(keeper)
    assert (await keeper.current()).access_key_id == "key-2"


async def test_keys_are_used_until_they_expire_while_no_others_can_be_had() -> None:
    giver = Giver()
    keeper = giver.keeper()
    await keeper.current()
    giver.trouble = DENIED
    for _ in range(590):
        giver.now += HOUR_S / 600
        assert (await keeper.current()).access_key_id == "key-1"
        await settled(keeper)
    assert giver.asked < 40  # neither a storm nor silence
    giver.now += HOUR_S
    with pytest.raises(StoreUnavailable, match="denied"):
        await keeper.current()
    giver.trouble = None
    assert (await keeper.current()).access_key_id.startswith("key-")


async def test_silence_holds_nobody_for_longer_than_the_timeout() -> None:
    giver = Giver()
    giver.speaks.clear()
    keeper = giver.keeper(timeout_s=0.2)
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match="no_credentials"):
            await keeper.current()
    giver.speaks.set()
    assert await keeper.current()


async def test_keys_without_an_end_are_looked_for_again_without_a_wait() -> None:
    giver = Giver(None)
    keeper = giver.keeper()
    await keeper.current()
    giver.now += STATIC_FOR_S + 1
    giver.trouble = DENIED  # the file is being written
    assert (await keeper.current()).access_key_id == "key-1"
    await settled(keeper)
    giver.trouble = None
    giver.now += 61
    await keeper.current()
    await settled(keeper)
    assert (await keeper.current()).access_key_id == "key-3"


async def test_refused_keys_are_looked_for_anew_once_for_all_who_were_refused() -> None:
    giver = Giver()
    keeper = giver.keeper()
    old = await keeper.current()
    newer = await asyncio.gather(*(keeper.newer_than(old) for _ in range(32)))
    assert {keys and keys.access_key_id for keys in newer} == {"key-2"}
    assert giver.asked == 2


async def test_a_refusal_of_something_else_is_no_reason_to_ask_for_ever() -> None:
    giver = Giver()
    giver.is_same = True
    keeper = giver.keeper()
    keys = await keeper.current()
    for _ in range(100):
        assert await keeper.newer_than(keys) is None
    assert giver.asked == 1 + MOST_REFUSALS
    giver.now += REFUSALS_WITHIN_S
    giver.is_same = False
    assert await keeper.newer_than(keys) is not None


async def test_a_file_that_is_rotated_some_time_after_the_bucket_is_looked_into_until_then() -> None:
    """To look into it asks nobody else."""
    giver = Giver(None)
    giver.is_same = True
    keeper = giver.keeper()
    keys = await keeper.current()
    for _ in range(20):
        assert await keeper.newer_than(keys) is None
        giver.now += STATIC_REFUSALS_WITHIN_S / 3
    giver.is_same = False
    assert await keeper.newer_than(keys) is not None
    assert giver.asked <= 25


async def test_keys_that_our_clock_calls_expired_are_tried_all_the_same() -> None:
    giver = Giver(-HOUR_S)
    assert (await giver.keeper().current()).access_key_id == "key-1"


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(AccessKeys("id", "secret", "token"))
    assert "'token'" not in repr(AccessKeys("id", "secret", "token"))
