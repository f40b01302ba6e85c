import ctypes
import functools
from collections.abc import Callable

STEP_S = 1.0
"""The least that counts as set: what comes in between is a moment in which nobody let us run."""

_TIME_ERROR = 5
_TIMEX_BYTES = 256  # struct timex is smaller everywhere


def is_synchronised() -> bool:
    """Say whether the kernel takes the clock to be right; adjtimex(2). True where it does not tell.

    A Raspberry Pi without a battery clock wakes up in the past, and believes it until a time server answers.
    """
    adjtimex = _adjtimex()
    # All zero: nothing is changed, only asked.
    return adjtimex is None or adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) != _TIME_ERROR


@functools.cache
def _adjtimex() -> Callable[[object], int] | None:
    function: Callable[[object], int] | None = getattr(ctypes.CDLL(None), "adjtimex", None)
    return function


class StepWatch:
    """Notices that the wall clock was set, by the steady one. No clock is read here."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    def note(self, wall_s: float, steady_s: float) -> float:
        """Return by how much the wall clock was set since the last time: 0 if it was not, at least a second.

        A clock that a time service draws slowly towards the right time is not set.
        """
        before_s, self._ahead_s = self._ahead_s, wall_s - steady_s
        if before_s is None or abs(self._ahead_s - before_s) < STEP_S:
            return 0.0
        return self._ahead_s - before_s
