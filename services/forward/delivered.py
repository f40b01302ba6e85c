"""Which faces the store has receipted lately."""

from collections import OrderedDict

MOST = 20_000
KEEP_S = 600.0


class Delivered:
    """The faces that the store has receipted lately, to be recognised when they come back.

    A bridge that copies both ways between the brokers brings each of our publications back as a new face, for
    ever. A face that comes back is remembered for longer. Others are forgotten, because a face may be sent
    anew on purpose one day. Time is an argument: seconds of a monotonic clock.

    Args:
        most: how many are remembered; beyond it the least recently seen one is forgotten.
        keep_s: for how many seconds.
    """

    def __init__(self, most: int = MOST, keep_s: float = KEEP_S) -> None:
        self._most = most
        self._keep_s = keep_s
        self._seen_s: OrderedDict[str, float] = OrderedDict()

    def add(self, face_id: str, now_s: float) -> None:
        """Remember a face that was just receipted, or has just come back."""
        self._seen_s.pop(face_id, None)
        self._seen_s[face_id] = now_s
        while len(self._seen_s) > self._most or now_s - self._oldest_s() > self._keep_s:
            self._seen_s.popitem(last=False)

    def has(self, face_id: str, now_s: float) -> bool:
        """Say whether a face was receipted already, and remember it for longer if so."""
        seen_s = self._seen_s.get(face_id)
        if seen_s is None or now_s - seen_s > self._keep_s:
            return False
        self.add(face_id, now_s)
        return True

    def __len__(self) -> int:
        return len(self._seen_s)

    def _oldest_s(self) -> float:
        return next(iter(self._seen_s.values()))
