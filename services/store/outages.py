"""Whether the store takes writes, judged by its checks and by the writes of faces. Pure: time is an argument.

Times are seconds of a steady clock. A write that fails is a hint, and the check decides: it tests the bucket
or folder itself, and needs free space as a new face does, while a copy of a stored face needs none.
"""

from services.common.storage.objects import ROOM_AFTER_FULL_BYTES, ROOM_BYTES, StoreUnavailable

FULL = "full"

GOOD_IN_A_ROW = 2
"""This many good checks in a row end an outage."""
FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 3.0
"""The pause between checks in an outage grows to this, so that a long one costs little."""
HINT_PAUSE_S = 2.0
"""The pause between checks because of hints alone."""
STUCK_S = 3.0
"""A face that fails for this long is reported, however well checks go: a single folder may be forbidden."""
STUCK_HOLD_S = 1.5
"""For how long that is still reported after the last stuck face: they may fail and succeed in turn."""
HANGING_S = 1.5
"""A write without an answer for this long asks for a check."""
HANGING_LIMIT_S = 2.5
TROUBLE_LIMIT_S = 5.0
"""How long a check may take: because of a hanging write, and in an outage."""


class OutageDetector:
    """Decides from checks and writes whether there is an outage, and when the next check is due."""

    def __init__(self) -> None:
        self._trouble: StoreUnavailable | None = None
        self._trouble_since_s = 0.0
        self._good = 0
        self._good_at_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._room_bytes = ROOM_BYTES
        self._is_hinted = False
        self._check_started_s = 0.0
        self._checked_s = 0.0
        self._written_s = 0.0
        self._writing: dict[str, float] = {}
        self._failing: dict[str, float] = {}
        self._errors: dict[str, StoreUnavailable] = {}
        self._stuck: StoreUnavailable | None = None
        self._stuck_s = 0.0

    @property
    def is_in_trouble(self) -> bool:
        """Whether the store as a whole does not work; a single face that is stuck does not count."""
        return self._trouble is not None

    @property
    def room_bytes(self) -> int:
        """How much free space the next check asks for."""
        return self._room_bytes

    def error(self, now_s: float) -> StoreUnavailable | None:
        """Return the error to report: of an outage, or of a face that is stuck; None while all is well."""
        if self._trouble is not None:
            return self._trouble
        oldest = next(iter(self._failing.items()), None)
        if oldest is not None and now_s - oldest[1] >= STUCK_S:
            self._stuck, self._stuck_s = self._errors[oldest[0]], now_s
        elif self._stuck is not None and now_s - self._stuck_s >= STUCK_HOLD_S:
            self._stuck = None
        return self._stuck

    def is_check_due(self, now_s: float, every_s: float) -> bool:
        """Say whether a check is due.

        Args:
            now_s: the time.
            every_s: the seconds between checks while nothing hints at an outage.
        """
        since_s = now_s - self._checked_s
        if self._trouble is not None:
            return since_s >= self._pause_s
        if self._is_hinted or self._is_hanging(now_s):
            return since_s >= min(HINT_PAUSE_S, every_s)
        return min(since_s, now_s - self._written_s) >= every_s

    def check_limit_s(self, now_s: float) -> float | None:
        """Return how many seconds the next check may take; None: as many as the store's own time-out."""
        if self._trouble is not None:
            return TROUBLE_LIMIT_S
        return HANGING_LIMIT_S if self._is_hanging(now_s) else None

    def check_started(self, now_s: float) -> None:
        """Note that a check is under way."""
        self._check_started_s = now_s
        self._is_hinted = False

    def check_worked(self, now_s: float) -> None:
        """Note that a check went well."""
        self._checked_s = now_s
        if self._check_started_s >= self._trouble_since_s:
            self._went_well(now_s)

    def check_failed(self, error: StoreUnavailable, now_s: float) -> None:
        """Note that a check failed. If a face was stored meanwhile, another check has to confirm it."""
        self._checked_s = now_s
        if error.reason != FULL and self._trouble is None and self._written_s > self._check_started_s:
            self._is_hinted = True
            return
        self._pause_s = FIRST_PAUSE_S if self._trouble is None else min(LAST_PAUSE_S, 2 * self._pause_s)
        self._fail(error, now_s)

    def write_started(self, face_id: str, now_s: float) -> None:
        """Note that a face is being written."""
        self._writing[face_id] = now_s

    def write_worked(self, face_id: str, now_s: float, *, is_new: bool) -> None:
        """Note that a face is stored; one that was there before proves nothing about new writes."""
        self._writing.pop(face_id, None)
        self._failing.pop(face_id, None)
        self._errors.pop(face_id, None)
        if is_new:
            self._written_s = now_s
            if self._room_bytes == ROOM_BYTES:  # where it was full, a small face may have fitted in
                self._went_well(now_s)

    def write_failed(self, face_id: str, size_bytes: int, error: StoreUnavailable, now_s: float) -> None:
        """Note that a face could not be written, and will be tried again."""
        self._writing.pop(face_id, None)
        self._failing.setdefault(face_id, now_s)
        self._errors[face_id] = error
        self._is_hinted = True
        if error.reason == FULL:
            self._fail(error, now_s)
            self._room_bytes = max(self._room_bytes, 2 * size_bytes)

    def write_given_up(self, face_id: str) -> None:
        """Note that a face that failed is not tried any more, and so is not stuck."""
        self._failing.pop(face_id, None)
        self._errors.pop(face_id, None)

    def _fail(self, error: StoreUnavailable, now_s: float) -> None:
        self._trouble, self._trouble_since_s, self._good = error, now_s, 0
        if error.reason == FULL:
            self._room_bytes = max(self._room_bytes, ROOM_AFTER_FULL_BYTES)

    def _went_well(self, now_s: float) -> None:
        if self._trouble is None or (self._good and now_s - self._good_at_s < FIRST_PAUSE_S):
            return
        self._good += 1
        self._good_at_s = now_s
        self._pause_s = FIRST_PAUSE_S
        if self._good >= GOOD_IN_A_ROW:
            self._trouble = self._stuck = None
            self._room_bytes = ROOM_BYTES
            self._failing.clear()
            self._errors.clear()

    def _is_hanging(self, now_s: float) -> bool:
        oldest = next(iter(self._writing.values()), None)
        return oldest is not None and now_s - max(oldest, self._written_s) >= HANGING_S
