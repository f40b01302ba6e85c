"""Whether the wall clock is right, and when it was set."""

import ctypes
import functools
from collections.abc import Callable

STEP_S = 1.0
"""The smallest step, in seconds, that counts: less is a moment in which this process did not run."""

_TIME_ERROR = 5
_TIMEX_BYTES = 256  # struct timex is smaller everywhere


def is_synchronised() -> bool:
    """Say whether the kernel takes the wall clock to be right; adjtimex(2). True where it does not tell.

    A Raspberry Pi without a battery clock starts in the past, and stays there until a time server answers.
    """
    adjtimex = _adjtimex()
    # All zero: nothing is changed, only asked.
    return adjtimex is None or adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) != _TIME_ERROR


@functools.cache
def _adjtimex() -> Callable[[object], int] | None:
    function: Callable[[object], int] | None = getattr(ctypes.CDLL(None), "adjtimex", None)
    return function


class StepWatch:
    """Notices that the wall clock was set, by comparison with a steady one. Reads no clock itself."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    def note(self, wall_s: float, steady_s: float) -> float:
        """Return by how much the wall clock was set since the last call, in seconds; 0 if it was not.

        A clock that a time service slews slowly towards the right time is not set.

        Args:
            wall_s: now by the wall clock, in seconds.
            steady_s: now by a clock that is never set and goes on while the machine sleeps, in seconds.
        """
        before_s, self._ahead_s = self._ahead_s, wall_s - steady_s
        if before_s is None or abs(self._ahead_s - before_s) < STEP_S:
            return 0.0
        return self._ahead_s - before_s
