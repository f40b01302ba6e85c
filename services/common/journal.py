"""The journal of a run over recordings, one JSON object a line, from capture to whoever audits the run.

`{"source": "front", "frames": 109}` when a file's length is known, `{"source": "front", "frame": 0,
"faces": [...]}` for each answer (with `"dropped": reason` where it is no picture), `{"source": "front",
"finished": true, "frames": 109}` after the last.
"""

import json
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A line of it.

    Attributes:
        source: the camera.
        frame: the number of the frame that is answered; nothing of an entry about the whole file.
        faces: the ids of the frame's faces, all of which forward has safe.
        dropped: why nobody will ever find a face in that frame.
        frames: how many the file has, or how many were answered in the end.
        is_finished: every frame of the file is answered.
    """

    source: str
    frame: int | None = None
    faces: tuple[str, ...] = ()
    dropped: str | None = None
    frames: int | None = None
    is_finished: bool = False

    def line(self) -> str:
        """Return it as it stands in the journal, without the line's end."""
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
        """Read a line.

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
