"""How many frames to work on at once."""

import os
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
