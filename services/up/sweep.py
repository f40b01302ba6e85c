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


def end(mark: str) -> None:
    """Kill all processes that carry a mark, and their children, until there are none.

    One that cannot be killed (it hangs in a driver, it is another user's) is left after a while.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while (found := carriers(mark)) and time.monotonic() < deadline_s:
        for pid in found:
            _kill(pid)
        time.sleep(_ROUND_S)


def carriers(mark: str) -> set[int]:
    """Return the processes that carry a mark, and their children's children, without this one.

    A process shows the environment that it was started with, so one that marks its children is not meant.
    """
    needle = mark.encode()
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {pid: _parent(pid) for pid in pids}
    found = {pid for pid in pids if needle in _environment(pid)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _environment(pid: int) -> bytes:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return b""
    return next((each for each in variables if each.startswith(MARK.encode() + b"=")), b"")


def _parent(pid: int) -> int:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(state.rpartition(b")")[2].split()[1])  # the name before it may hold anything


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
