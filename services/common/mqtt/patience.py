"""How long to wait for a broker to let us in. Pure: durations are arguments."""

FIRST_S = 3.5
MOST_S = 20.0
SHORT_TRIES = 3
"""So many tries are short: what swallowed the connection before may swallow the first of the new ones."""
TIMES_USUAL = 4


class Patience:
    """Short while a broker should be there, long where nothing has come of that, or where it is far away."""

    def __init__(self) -> None:
        self._tries = 0
        self._usual_s = 0.0

    def next_s(self) -> float:
        """Return how long to wait this time."""
        doublings = max(0, self._tries - SHORT_TRIES + 1)
        wanted_s = max(FIRST_S, TIMES_USUAL * self._usual_s) * 2.0**doublings
        self._tries = min(self._tries + 1, SHORT_TRIES + 8)
        return min(wanted_s, MOST_S)

    def worked(self, took_s: float) -> None:
        """Learn how long it takes here."""
        self._usual_s = took_s
        self._tries = 0
