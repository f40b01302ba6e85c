HEADROOM = 1.5


def decoded_fps(fps: float | None, looks_per_s: float) -> float | None:
    """Return how many of a live camera's decoded pictures are worth carrying, a second; nothing for all.

    A raw picture goes through two copies and a conversion, looked at or not: of those that come to nothing in
    any case most are left out at once. Some more than are asked for remain to be chosen from.

    Args:
        fps: what the user allows, if anything is said.
        looks_per_s: how often is usual where somebody is; 0: each frame.
    """
    return (fps or looks_per_s) * HEADROOM or None


class RateLimit:
    """Lets through at most so many pictures a second, evenly, and none too few because of jitter.

    Args:
        fps: pictures per second; nothing: all of them.
    """

    def __init__(self, fps: float | None) -> None:
        self._interval_s = 1 / fps if fps else 0.0
        self._due_s: float | None = None

    def admits(self, now_s: float) -> bool:
        """Say whether the picture of this moment goes on. `now_s` may be media time or a steady clock."""
        if self._due_s is None:
            self._due_s = now_s
        # A picture that comes a little early must not make the next one, a whole period later, its stand-in.
        if now_s < self._due_s - 0.25 * self._interval_s:
            return False
        is_late = now_s > self._due_s + self._interval_s
        self._due_s = (now_s if is_late else self._due_s) + self._interval_s
        return True
