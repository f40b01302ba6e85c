from collections import OrderedDict

MOST = 20_000
KEEP_S = 600.0


class Delivered:
    """The faces that the store has lately answered for, to be known again when they come back.

    A bridge that copies both ways between the brokers brings each of our own publications back as a new face,
    for ever. What comes back is kept in mind for longer; what does not is forgotten, for somebody may really
    want a face to be sent anew one day. Time is an argument.

    Args:
        most: how many are remembered; the one that was seen least lately is forgotten.
        keep_s: for how long.
    """

    def __init__(self, most: int = MOST, keep_s: float = KEEP_S) -> None:
        self._most = most
        self._keep_s = keep_s
        self._seen_s: OrderedDict[str, float] = OrderedDict()

    def add(self, face_id: str, now_s: float) -> None:
        """Remember a face that was just answered for, or has just come back."""
        self._seen_s.pop(face_id, None)
        self._seen_s[face_id] = now_s
        while len(self._seen_s) > self._most or now_s - self._oldest_s() > self._keep_s:
            self._seen_s.popitem(last=False)

    def has(self, face_id: str, now_s: float) -> bool:
        """Say whether a face that comes was answered for already."""
        seen_s = self._seen_s.get(face_id)
        if seen_s is None or now_s - seen_s > self._keep_s:
            return False
        self.add(face_id, now_s)
        return True

    def __len__(self) -> int:
        return len(self._seen_s)

    def _oldest_s(self) -> float:
        return next(iter(self._seen_s.values()))
