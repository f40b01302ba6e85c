"""The journal that capture writes of a run over recordings, to be audited: one JSON object a line.

`{"source": "front", "frames": 109}` when a file's length is known, `{"source": "front", "frame": 0,
"faces": [...]}` for each answer (with `"dropped": reason` where it is no picture), `{"source": "front",
"finished": true, "frames": 109}` after the last.
"""

import json
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A line of the journal.

    Attributes:
        source: the camera.
        frame: the number of a frame that was answered; None: the entry is about the whole file.
        faces: the ids of the frame's faces, all of them receipted by forward.
        dropped: why the frame was dropped for good; None: it was processed.
        frames: how many frames the file has or, when finished, how many were answered; None: not known.
        is_finished: whether all frames of the file were answered.
    """

    source: str
    frame: int | None = None
    faces: tuple[str, ...] = ()
    dropped: str | None = None
    frames: int | None = None
    is_finished: bool = False

    def line(self) -> str:
        """Return the entry as JSON, without a line end."""
        body: dict[str, object] = {"source": self.source}
        if self.frame is not None:
            body |= {"frame": self.frame, "faces": list(self.faces)}
        if self.dropped is not None:
            body["dropped"] = self.dropped
        if self.is_finished:
            body["finished"] = True
        if self.frames is not None:
            body["frames"] = self.frames
        return json.dumps(body)

    @classmethod
    def read(cls, line: str | bytes) -> Self:
        """Parse a line of a journal that capture has written.

        Raises:
            ValueError: it is no JSON.
        """
        found = json.loads(line)
        return cls(
            found.get("source", ""),
            found.get("frame"),
            tuple(found.get("faces", ())),
            found.get("dropped"),
            found.get("frames"),
            found.get("finished", False),
        )
