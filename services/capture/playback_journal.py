import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from services.common.errors import SetupError
from services.common.journal import Entry
from services.common.runtime.files import private


class PlaybackJournal:
    """Notes what became of the frames of paced files, in the form of `common.journal`."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def length(self, camera: str, frames: int) -> None:
        """Note how many frames a file has."""
        self._write(Entry(camera, frames=frames))

    def answer(self, camera: str, frame: int, faces: Sequence[str]) -> None:
        """Note the faces of a frame, all of which forward has safe."""
        self._write(Entry(camera, frame, tuple(faces)))

    def dropped(self, camera: str, frame: int, reason: str) -> None:
        """Note a frame in which nobody will ever find a face, for it is no picture."""
        self._write(Entry(camera, frame, dropped=reason))

    def finished(self, camera: str, frames: int) -> None:
        """Note that every frame of a file is answered."""
        self._write(Entry(camera, frames=frames, is_finished=True))

    def _write(self, entry: Entry) -> None:
        if self._file is not None:
            self._file.write(entry.line() + "\n")
            self._file.flush()


@contextmanager
def open_journal(path: Path | None) -> Iterator[PlaybackJournal]:
    """Start a journal anew; without a path, one that keeps nothing.

    Raises:
        SetupError: it cannot be written.
    """
    if path is None:
        yield PlaybackJournal(None)
        return
    try:
        file = os.fdopen(private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"FACEFERRY_JOURNAL_PATH: {error}") from error
    with file:
        yield PlaybackJournal(file)
