"""A program's last words, fit for a log: bounded, and without credentials."""

import re
from collections import deque

from services.capture.redaction import redact, shown

MAX_LINES = 8
MAX_LINE_CHARACTERS = 300

_MOST_REST_BYTES = 4 * MAX_LINE_CHARACTERS

# Where in its memory ffmpeg keeps what speaks is different each time, and would make each line news.
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
# ffmpeg's `-loglevel level+info` marks each line; what is only information says nothing about an end.
_STREAM = re.compile(r"Stream #0:\d+.*Video: .*?\b(\d{2,5}x\d{2,5})\b")
_CHANGED = re.compile(r"Reconfiguring filter graph because video parameters changed.*?\b(\d{2,5}x\d{2,5})\b")
_INFORMATION = re.compile(r"\[info\]|^\s|^$")


class SizeChange:
    """Notices when ffmpeg (7.1 and later) says that a camera's pictures have another size now.

    From there on ffmpeg would squeeze the pictures into the old shape. Other parameters may change.
    """

    def __init__(self) -> None:
        self._size = ""

    def is_told_by(self, line: str) -> bool:
        """Say whether a line tells of a size other than the one before."""
        found = (_CHANGED if self._size else _STREAM).search(line) or _CHANGED.search(line)
        if found is None or found[1] == self._size:
            return False
        is_change, self._size = bool(self._size), found[1]
        return is_change


class LastWords:
    """Keeps the end of what a program says on standard error.

    Args:
        url: the camera's address: what opens it is not repeated, wherever it stands.
        entrance: what the program was told in its place, and is new each time.
    """

    def __init__(self, url: str = "", entrance: str = "") -> None:
        self._url = url
        self._entrance = entrance
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._rest = b""

    def add(self, data: bytes) -> list[str]:
        """Take what came; return the lines it completes, redacted."""
        *lines, rest = re.split(rb"[\r\n]", self._rest + data)
        if len(rest) > _MOST_REST_BYTES:
            # Of an address that is cut in two the end could not be told from anything else.
            rest = rest[-_MOST_REST_BYTES:].partition(b" ")[2]
        self._rest = rest
        complete = [self._clean(line) for line in lines]
        self._lines.extend(line for line in complete if not _INFORMATION.search(line))
        return complete

    def __str__(self) -> str:
        last = self._clean(self._rest)
        return " | ".join([*self._lines, *([last] if last and not _INFORMATION.search(last) else [])])

    def _clean(self, line: bytes) -> str:
        text = line.decode(errors="replace")
        if self._entrance:
            text = text.replace(self._entrance, shown(self._url))
        text = redact(text, self._url)
        return _ADDRESS.sub("", text)[:MAX_LINE_CHARACTERS]
