"""A listing that only goes forward, read from its end."""

import bisect
from collections.abc import Iterable
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.storage import reverse_listing as module
from services.common.storage.objects import ListedObject
from services.common.storage.reverse_listing import reverse_entries
from services.common.wire import times

DAY = date(2026, 3, 14)
DAWN = times.midnight(DAY)
FOLDER = "dt=2026-03-14/device=porch/camera=front"
DAY_US = 24 * 3600 * 1_000_000


def name(at: datetime, digest: int = 0) -> str:
    return f"{times.compact(at)}-{digest:032x}.jpg"


def us(offset: int) -> datetime:
    return DAWN + timedelta(microseconds=offset)


class Listing:
    """Names in order; counts what is asked of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(set(names))
        self.requests = 0
        self.read = 0

    async def first(self, count: int, *, after: str, before: str) -> list[ListedObject]:
        start = bisect.bisect_right(self.names, after) if after else 0
        end = bisect.bisect_left(self.names, before) if before else len(self.names)
        found = [ListedObject(f"{FOLDER}/{each}", 1) for each in self.names[start:end][:count]]
        self.requests += 1 + len(found) // 1_000
        self.read += len(found)
        return found

    async def last(self, count: int, before: str = "") -> list[str]:
        found: list[str] = []
        async for entry in reverse_entries(self.first, DAY, before):
            found.append(entry.key.rpartition("/")[2])
            if len(found) == count:
                break
        return found


moments = st.one_of(
    st.integers(0, DAY_US - 1),
    st.integers(0, 50),  # a crowd at dawn
    st.integers(DAY_US - 50, DAY_US - 1),  # and one before midnight
    st.integers(0, 23).map(lambda hour: hour * 3_600_000_000),
)
names = st.lists(
    st.one_of(
        st.builds(lambda offset, digest: name(us(offset), digest), moments, st.integers(0, 3)),
        st.sampled_from(["a stray.jpg", "0.jpg", "~", "20260315T000000.000000Z-stray.jpg", "20260314Tx.jpg"]),
    ),
    max_size=80,
)
bounds = st.one_of(
    st.just(""),
    moments.map(lambda offset: times.compact(us(offset))),
    st.builds(lambda offset, digest: name(us(offset), digest)[:-4], moments, st.integers(0, 3)),
    st.sampled_from(["9", "1", "20260314", "20260401T000000.000000Z"]),
)


@given(stored=names, before=bounds, most=st.integers(2, 12))
async def test_every_name_comes_once_and_in_order(stored: list[str], before: str, most: int) -> None:
    listing = Listing(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_AT_A_LOOK", most)
        patch.setattr(module, "WANTED_AT_A_LOOK", max(1, most * 2 // 3))
        found = await listing.last(1_000, before)
    assert found == [each for each in reversed(listing.names) if not before or each < before]


ONE_A_SECOND = [name(DAWN + timedelta(seconds=second)) for second in range(86_400)]
A_BURST = [name(DAWN + timedelta(hours=9, milliseconds=step)) for step in range(20_000)]
A_MORNING = [name(DAWN + timedelta(hours=6, seconds=step / 4)) for step in range(60_000)]
AT_ONE_MOMENT = [name(DAWN + timedelta(hours=9), digest) for digest in range(3_000)]
A_FEW = [name(DAWN + timedelta(hours=hour)) for hour in range(24)]


@pytest.mark.parametrize("before", ["", "20260314T100000.000000Z", "20260314T220000.000000Z"])
@pytest.mark.parametrize(
    ("stored", "most_requests"),
    [(ONE_A_SECOND, 4), (A_BURST, 24), (A_MORNING, 16), (AT_ONE_MOMENT, 40), (A_FEW, 4), ([], 4)],
    ids=["one a second", "a burst", "a morning", "one moment", "a few", "none"],
)
async def test_the_last_of_a_crowd_are_found_in_a_few_requests(
    stored: list[str], most_requests: int, before: str
) -> None:
    listing = Listing(stored)
    found = await listing.last(61, before)
    assert found == [each for each in reversed(listing.names) if not before or each < before][:61]
    assert listing.requests <= most_requests, (listing.requests, listing.read)
    assert listing.read <= 9_000


async def test_all_of_a_day_cost_little_more_than_a_listing_from_its_beginning() -> None:
    listing = Listing(A_MORNING)
    assert await listing.last(len(A_MORNING)) == listing.names[::-1]
    assert listing.read < 1.5 * len(A_MORNING)
    assert listing.requests < 2.5 * len(A_MORNING) / 1_000
