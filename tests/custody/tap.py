import re
from collections import Counter

_ID = re.compile(rb"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{32}")
_ID_BYTES = 56


class UplinkTap:
    """Counts how often each face is sent to the cloud, from the bytes on the way.

    Attributes:
        sent: by the face's id, over however many ways.
        last: the way by which the last one went.
    """

    def __init__(self) -> None:
        self.sent: Counter[bytes] = Counter()
        self.last = 0
        self._tails: dict[int, bytes] = {}

    @property
    def sent_again(self) -> int:
        """How often faces were sent that had been before."""
        return self.sent.total() - len(self.sent)

    def look(self, way: int, data: bytes) -> None:
        """Look at the next bytes of a way. An id may lie across two pieces."""
        text = self._tails.get(way, b"") + data
        end = 0
        for found in _ID.finditer(text):
            self.sent[found[0]] += 1
            self.last = way
            end = found.end()
        self._tails[way] = text[max(end, len(text) - _ID_BYTES + 1) :]
