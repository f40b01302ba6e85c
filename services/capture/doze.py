"""How long a camera's program may be left unread while nothing of what it writes is worth reading."""

MOST_S = 0.2
LEAST_S = 0.01
"""Shorter rests save nothing."""
SHARE = 0.7
"""Of the pipe, that may fill up meanwhile: a program that cannot write cannot read its camera either, and
comes behind."""
WINDOW_S = 0.5
"""Over so long is measured how much comes."""


class Doze:
    """Rests that a pipe can bear.

    To be woken for each piece of a picture that nobody looks at costs more than reading it, and a pipe holds
    several pictures.

    Args:
        pipe_bytes: how much the pipe holds.
    """

    def __init__(self, pipe_bytes: int) -> None:
        self._bearable_bytes = pipe_bytes * SHARE
        self._since_s: float | None = None
        self._bytes = 0
        self._bytes_a_s: float | None = None
        self._is_drained = False

    def note(self, count: int, now_s: float, *, is_drained: bool) -> None:
        """Take note that so many bytes were read, and whether that was all that there was."""
        self._is_drained = is_drained
        if self._since_s is None:
            self._since_s = now_s
            return
        self._bytes += count
        if (passed_s := now_s - self._since_s) >= WINDOW_S:
            self._bytes_a_s = self._bytes / passed_s
            self._since_s, self._bytes = now_s, 0

    def rest_s(self, idle_s: float) -> float:
        """Return how long to rest, in seconds, where nothing is worth reading for `idle_s`; 0: not at all.

        What was left in the pipe is read first, or it would fill up from rest to rest.
        """
        if not self._bytes_a_s or not self._is_drained:
            return 0.0
        rest_s = min(MOST_S, idle_s, self._bearable_bytes / self._bytes_a_s)
        return rest_s if rest_s >= LEAST_S else 0.0
