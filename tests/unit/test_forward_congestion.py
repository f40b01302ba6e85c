"""The window against a simulated link: a queue without end before a bottleneck."""

import heapq
from dataclasses import dataclass

import pytest

from services.forward.congestion import QUEUE_S, CongestionWindow, SendSample
from services.forward.outbox import LEAST_FACES

FACE_BYTES = 20_000


@dataclass
class Link:
    bytes_per_s: float
    round_trip_s: float
    free_at_s: float = 0.0

    def receipt_at_s(self, now_s: float) -> float:
        self.free_at_s = max(now_s, self.free_at_s) + FACE_BYTES / self.bytes_per_s
        return self.free_at_s + self.round_trip_s


def drain(
    link: Link, window: CongestionWindow, seconds: float, start_s: float = 0.0
) -> tuple[float, list[float]]:
    """Send without end; return the receipted bytes a second and the round trips of the last half."""
    now_s = start_s
    receipts: list[tuple[float, SendSample]] = []
    delivered = 0
    round_trips = []
    half_s = start_s + seconds / 2
    while now_s < start_s + seconds:
        while len(receipts) < LEAST_FACES or len(receipts) * FACE_BYTES < window.bytes:
            heapq.heappush(receipts, (link.receipt_at_s(now_s), window.sent(now_s, is_limited=True)))
        now_s, departure = heapq.heappop(receipts)
        window.receipted(departure, FACE_BYTES, now_s)
        if now_s > half_s:
            delivered += FACE_BYTES
            round_trips.append(now_s - departure.at_s)
    return delivered / (seconds / 2), round_trips


@pytest.mark.parametrize("megabits", [0.256, 1, 10, 100])
@pytest.mark.parametrize("round_trip_s", [0.002, 0.02, 0.2])
def test_window_fills_the_link_and_keeps_the_queue_short(megabits: float, round_trip_s: float) -> None:
    capacity = megabits * 1e6 / 8
    rate, round_trips = drain(Link(capacity, round_trip_s), CongestionWindow(), seconds=120)
    assert rate > 0.95 * capacity
    typical_s = sorted(round_trips)[len(round_trips) // 2]
    # Two faces always fit.
    assert typical_s < round_trip_s + 2 * QUEUE_S + LEAST_FACES * FACE_BYTES / capacity


def test_window_follows_a_link_that_becomes_slow_and_fast_again() -> None:
    window = CongestionWindow()
    drain(Link(12.5e6, 0.02), window, 30)
    slow, round_trips = drain(Link(1.25e6, 0.02), window, 60, start_s=30)
    assert slow > 0.9 * 1.25e6
    assert sorted(round_trips)[len(round_trips) // 2] < 1.5
    fast, _ = drain(Link(12.5e6, 0.02), window, 60, start_s=90)
    assert fast > 0.9 * 12.5e6


def test_window_recovers_when_the_store_becomes_slow_to_answer() -> None:
    window = CongestionWindow()
    drain(Link(1.25e6, 0.02), window, 30)
    rate, _ = drain(Link(1.25e6, 1.0), window, 120, start_s=30)
    assert rate > 0.8 * 1.25e6


def test_window_stays_within_its_bounds() -> None:
    window = CongestionWindow(least_bytes=100_000, most_bytes=1_000_000)
    drain(Link(1e9, 0.001), window, 5)
    assert window.bytes == 1_000_000
    window.start_over()
    # One face in 100 s: what the link carries in that time and a little more is less than the least.
    window.receipted(window.sent(0.0, is_limited=True), FACE_BYTES, 100.0)
    assert window.bytes == 100_000
