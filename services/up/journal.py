"""What capture's journal tells of a run with paced sources."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class SourceProgress:
    """How far one source is."""

    frames: int | None = None
    answers: dict[int, list[str]] = field(default_factory=dict)
    is_finished: bool = False


class Journal:
    """Follows the journal that capture writes, and starts over when capture does.

    Args:
        path: the file; it need not be there yet.
        sources: the names of the sources that have to finish.
    """

    def __init__(self, path: Path, sources: list[str]) -> None:
        self._path = path
        self._offset = 0
        self._names = sources
        self._sources = {name: SourceProgress() for name in sources}

    def follow(self) -> None:
        """Read what is new."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size < self._offset:
            self._offset = 0
            self._sources = {name: SourceProgress() for name in self._names}
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        end = text.rfind(b"\n") + 1  # the last line may still be written
        self._offset += end
        for line in text[:end].splitlines():
            self._note(json.loads(line))

    @property
    def frames(self) -> int:
        """How many frames have been answered."""
        return sum(len(source.answers) for source in self._sources.values())

    @property
    def all_frames(self) -> int | None:
        """How many there are, once every source has told."""
        totals = [source.frames for source in self._sources.values()]
        return sum(total for total in totals if total is not None) if None not in totals else None

    @property
    def faces(self) -> dict[str, str]:
        """The distinct ids in the answers, each with its source's name."""
        return {
            face: name
            for name, source in self._sources.items()
            for answer in source.answers.values()
            for face in answer
        }

    @property
    def is_finished(self) -> bool:
        """Whether every source has its last answer."""
        return all(source.is_finished for source in self._sources.values())

    def _note(self, entry: dict[str, object]) -> None:
        source = self._sources.get(str(entry.get("source")))
        if source is None:
            return
        match entry:
            case {"frame": int(frame), "faces": [*faces]}:
                source.answers[frame] = [str(face) for face in faces]
            case {"finished": True}:
                source.is_finished = True
        if isinstance(total := entry.get("frames"), int):
            source.frames = total
