"""Ends what a run has left behind; as a program of its own, as soon as the run is gone.

The kernel ends the children of a process that dies (PR_SET_PDEATHSIG), but not theirs, and not a broker that
gives up root for another user. So all that a run starts carries a mark in its environment, which children
inherit, and a process that is no child of anything marked ends whoever still carries it when its standard
input ends: that is held open by the run alone, however it dies. It imports little, for it is started at each
run, and without the packages.
"""

import os
import signal
import sys
import time
from pathlib import Path

MARK = "FERRY_RUN"
"""The variable with the marks: those of all runs and parts that a process belongs to."""
PATIENCE_S = 5.0
_ROUND_S = 0.02
_CLEAN_LOOKS = 2
"""One alone may miss a child that is born while it looks, of a parent that dies before it is asked."""
_BLANK_S = 0.5
"""A process without any environment for this long has none, and is not just becoming another program."""
_KERNEL_THREAD = 0x0020_0000
"""PF_KTHREAD among the flags of /proc/PID/stat."""


def end(mark: str) -> None:
    """Kill all processes that carry a mark, and their children, until there are none.

    One that cannot be killed (it hangs in a driver, it is another user's) is left after a while.
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


def carriers(mark: str) -> set[int]:
    """Return the processes that carry a mark, and their children's children, without this one.

    A process shows the environment that it was started with, so one that marks its children is not meant.
    """
    return _look(mark)[0]


def _look(mark: str) -> tuple[set[int], set[int]]:
    """Return who carries a mark, and who shows no environment: one that is just becoming another program.

    Between execve() and the new program's start the kernel has none to show, whosever the process is.
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
    """Say whether this is neither the kernel's own nor dead already: those have no environment for good."""
    state = _state(pid)
    return bool(state) and state[0] not in {b"Z", b"X"} and not int(state[6]) & _KERNEL_THREAD


def _state(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the name, which may hold anything; none if it is gone."""
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
    """Wait for the run's end, whatever is sent to us meanwhile."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end(sys.argv[1])


if __name__ == "__main__":
    main()
