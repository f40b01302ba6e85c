"""A ZIP archive as a stream: only the file added last is in memory. Pure."""

from datetime import datetime
from io import BytesIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

MOST_FACES = 1_000
"""Faces in one archive."""
_FILE = 0o100600 << 16
"""Mode of a regular file that only its owner may read."""
_FIRST_YEAR = 1980


class Archive:
    """Takes files and returns the bytes of the archive as it grows.

    Images are compressed already, so files are stored as they are. Sizes are written before the content, so
    that the archive can be read as a stream.
    """

    def __init__(self) -> None:
        self._out = _UntakenEnd()
        self._zip = ZipFile(self._out, "w", ZIP_STORED)  # type: ignore[call-overload]

    def add(self, name: str, content: bytes, time: datetime) -> bytes:
        """Add a file; return the bytes that it adds to the archive.

        Args:
            name: its path in the archive, ASCII letters that every system allows.
            content: all of it.
            time: when it was made; ZIP has no time before 1980, so an earlier one becomes that.
        """
        moment = max(time.timetuple()[:6], (_FIRST_YEAR, 1, 1, 0, 0, 0))
        info = ZipInfo(name, moment)
        info.external_attr = _FILE
        self._zip.writestr(info, content)
        return self._out.take()

    def end(self) -> bytes:
        """Close the archive; return its last bytes."""
        self._zip.close()
        return self._out.take()


class _UntakenEnd:
    """A file object that holds only the bytes that were not taken yet."""

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
        """Do nothing: there is no buffer below."""

    def take(self) -> bytes:
        data = self._end.getvalue()
        self._before += len(data)
        self._end = BytesIO()
        return data
