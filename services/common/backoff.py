import random


class Backoff:
    """Waiting times that double from `first_s` up to `most_s`, each spread over half to all of it.

    The spread keeps a fleet that lost its broker at one moment from coming back at one moment.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return how long to wait now, in seconds."""
        ceiling_s = self._next_s
        self._next_s = min(self._most_s, ceiling_s * 2)
        return random.uniform(ceiling_s / 2, ceiling_s)

    def reset(self) -> None:
        """Start over: the last try went well."""
        self._next_s = self._first_s
