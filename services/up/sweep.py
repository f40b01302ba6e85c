"""Kills the processes that a run has left behind; run as a program, it does so when the run ends.

The kernel kills the children of a process that dies (PR_SET_PDEATHSIG), but not their children, and not a
broker that changes from root to another user. So all processes of a run have a mark in their environment,
which children inherit. A process without the mark kills those that have it when its standard input ends,
which only the run holds open. It imports little, because it is started at each run, without packages.
"""

import os
import signal
import sys
import time
from pathlib import Path

MARK = "FERRY_RUN"
"""The environment variable with the marks of all runs and parts that a process belongs to."""
PATIENCE_S = 5.0
_ROUND_S = 0.02
_CLEAN_LOOKS = 2
"""A single look may miss a child that is started during it, by a parent that dies before it is read."""
_BLANK_S = 0.5
"""A process without an environment for so long has none, and is not just executing another program."""
_KERNEL_THREAD = 0x0020_0000
"""PF_KTHREAD among the flags of /proc/PID/stat."""


def end(mark: str) -> None:
    """Kill all processes that carry a mark, and their children, until there are none.

    One that cannot be killed (it hangs in a driver, it is another user's) is given up after `PATIENCE_S`.
    """
    blank_since_s: dict[int, float] = {}
    clean_looks = 0
    deadline_s = time.monotonic() + PATIENCE_S
    while (now_s := time.monotonic()) < deadline_s and clean_looks < _CLEAN_LOOKS:
        found, blank = _look(mark)
        for pid in found:
            _kill(pid)
        blank_since_s = {pid: blank_since_s.get(pid, now_s) for pid in blank}
        is_clean = not found and all(now_s - since_s > _BLANK_S for since_s in blank_since_s.values())
        clean_looks = clean_looks + 1 if is_clean else 0
        time.sleep(_ROUND_S)


def _look(mark: str) -> tuple[set[int], set[int]]:
    """Return the processes with a mark, and those that show no environment.

    The kernel shows none between execve() and the start of the new program, whatever the process.
    """
    needle = mark.encode()
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    environments = {pid: _environment(pid) for pid in pids}
    parents = {pid: _parent(pid) for pid in pids}
    found = {
        pid for pid, environment in environments.items() if environment and needle in _marks(environment)
    }
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    blank = {pid for pid, environment in environments.items() if environment == b"" and _is_program(pid)}
    return found - {os.getpid()}, blank - found


def _environment(pid: int) -> bytes | None:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or another user's
        return None


def _marks(environment: bytes | None) -> bytes:
    variables = (environment or b"").split(b"\0")
    return next((each for each in variables if each.startswith(MARK.encode() + b"=")), b"")


def _parent(pid: int) -> int:
    return int(state[1]) if (state := _state(pid)) else 0


def _is_program(pid: int) -> bool:
    """Say whether it is neither a kernel thread nor dead: those never have an environment."""
    state = _state(pid)
    return bool(state) and state[0] not in {b"Z", b"X"} and not int(state[6]) & _KERNEL_THREAD


def _state(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the name; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # gone, or another user's


def main() -> None:
    """Wait for the end of the run, ignoring signals, and kill its processes."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end(sys.argv[1])


if __name__ == "__main__":
    main()
