"""The file in which capture notes what became of each frame of a paced recording."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from services.common.errors import SetupError
from services.common.journal import JournalEntry
from services.common.runtime.files import private


class PlaybackJournal:
    """Notes what became of the frames of paced recordings, in the format of `common.journal`.

    Args:
        file: where it is written, and flushed after each entry; None: nothing is kept.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def length(self, camera: str, frames: int) -> None:
        """Note how many frames of a recording will be sent."""
        self._write(JournalEntry(camera, frames=frames))

    def answer(self, camera: str, frame: int, faces: Sequence[str]) -> None:
        """Note the ids of a frame's faces, all of which forward has receipted."""
        self._write(JournalEntry(camera, frame, tuple(faces)))

    def dropped(self, camera: str, frame: int, reason: str) -> None:
        """Note a frame that will never be looked at, and why, as the answer to it says."""
        self._write(JournalEntry(camera, frame, dropped=reason))

    def finished(self, camera: str, frames: int) -> None:
        """Note that a recording is over, and how many of its frames were answered."""
        self._write(JournalEntry(camera, frames=frames, is_finished=True))

    def _write(self, entry: JournalEntry) -> None:
        if self._file is not None:
            self._file.write(entry.line() + "\n")
            self._file.flush()


@contextmanager
def open_journal(path: Path | None) -> Iterator[PlaybackJournal]:
    """Open an empty journal at a path, readable by its owner alone; without a path, one that keeps nothing.

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
