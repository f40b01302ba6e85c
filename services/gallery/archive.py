"""A ZIP archive, piece by piece: no more of it is in memory than what was added last. Pure."""

from datetime import datetime
from io import BytesIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

MOST_FACES = 1_000
"""Of one archive."""
_FILE = 0o100600 << 16
"""Of a file that is its owner's alone."""
_FIRST_YEAR = 1980


class Archive:
    """Takes files and gives back the archive's bytes as they come to be.

    Images are as small as they get, so nothing is compressed. Sizes stand before the content, so that also
    what reads the archive as a stream can read it.
    """

    def __init__(self) -> None:
        self._out = _UntakenEnd()
        self._zip = ZipFile(self._out, "w", ZIP_STORED)  # type: ignore[call-overload]

    def add(self, name: str, content: bytes, time: datetime) -> bytes:
        """Add a file; return what the archive grows by.

        Args:
            name: its path within, of characters that are safe everywhere.
            content: whole.
            time: of its making; those before 1980 are said to be of then, for want of a way to say others.
        """
        moment = max(time.timetuple()[:6], (_FIRST_YEAR, 1, 1, 0, 0, 0))
        info = ZipInfo(name, moment)
        info.external_attr = _FILE
        self._zip.writestr(info, content)
        return self._out.take()

    def end(self) -> bytes:
        """Return the archive's end."""
        self._zip.close()
        return self._out.take()


class _UntakenEnd:
    """A file of which only the end is there: what was not taken yet."""

    def __init__(self) -> None:
        self._before = 0
        self._end = BytesIO()

    def write(self, data: bytes) -> int:
        return self._end.write(data)

    def tell(self) -> int:
        return self._before + self._end.tell()

    def seek(self, place: int) -> int:
        self._end.seek(place - self._before)
        return place

    def flush(self) -> None:
        """Nothing waits anywhere."""

    def take(self) -> bytes:
        data = self._end.getvalue()
        self._before += len(data)
        self._end = BytesIO()
        return data
