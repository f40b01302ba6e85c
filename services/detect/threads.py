"""How many threads work on frames, and how much memory they take together."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def default_count(cores: int) -> int:
    """Return the number of threads for so many cores: a quarter of many is left to the other services."""
    return max(1, cores - cores // 4)


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the cores that this process may use: its affinity, and its container's limit, rounded up."""
    return max(1, min(len(os.sched_getaffinity(0)), _container_cores(cgroup)))


def _container_cores(cgroup: Path) -> int:
    try:
        quota, period = cgroup.read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or `max`: no limit
        return 1_000_000


class WeightedSemaphore:
    """Bounds what threads hold of something at the same time; a thread waits while too little is free.

    Args:
        most: all there is, in any unit. A thread that asks for more gets all of it, alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def holding(self, amount: int) -> Iterator[None]:
        """Hold this amount. A thread that holds some must not ask for more: it could wait for itself."""
        amount = min(amount, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
