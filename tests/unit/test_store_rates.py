from hypothesis import given
from hypothesis import strategies as st

from services.store.floods import BURST_S, RateLimits


def sent(rates: RateLimits, device: str, size: int, times_s: list[float]) -> int:
    """What a device gets through that sends at these times."""
    passed = 0
    for now_s in times_s:
        if rates.allows(device, now_s):
            rates.spend(device, size, now_s)
            passed += size
    return passed


@given(st.integers(1, 3_000), st.integers(1, 50), st.integers(0, 1_000_000))
def test_a_device_gets_its_rate_and_its_burst_and_one_face_more(size: int, every_ms: int, begin: int) -> None:
    times_s = [begin + number * every_ms / 1_000 for number in range(1_000)]
    passed = sent(RateLimits(10_000), "loud", size, times_s)
    allowance = 10_000 * (times_s[-1] - times_s[0] + BURST_S)
    assert passed <= allowance + size
    assert passed >= min(1_000 * size, allowance - 10_000 * every_ms / 1_000 - size)


def test_one_devices_rate_is_not_anothers() -> None:
    rates = RateLimits(1_000)
    assert sent(rates, "loud", 500, [0.0] * 100) < 5_000
    assert sent(rates, "porch", 500, [0.0]) == 500


def test_without_a_bound_all_goes_through_and_nothing_is_kept() -> None:
    rates = RateLimits(0)
    assert sent(rates, "loud", 10**9, [0.0] * 100) == 100 * 10**9
    assert len(rates) == 0


def test_of_ten_thousand_devices_that_come_and_go_few_are_remembered() -> None:
    rates = RateLimits(1_000)
    for number in range(20_000):
        rates.spend(f"device-{number}", 100, number * 0.01)
    assert len(rates) <= 1_025
