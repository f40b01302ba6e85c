"""The journal's form, which others may read than ourselves."""

import pytest

from services.common.journal import JournalEntry

LINES = {
    '{"source": "front", "frames": 109}': JournalEntry("front", frames=109),
    '{"source": "front", "frame": 0, "faces": ["a", "b"]}': JournalEntry("front", 0, ("a", "b")),
    '{"source": "front", "frame": 0, "faces": [], "dropped": "bad_image"}': JournalEntry(
        "front", 0, dropped="bad_image"
    ),
    '{"source": "front", "finished": true, "frames": 109}': JournalEntry(
        "front", frames=109, is_finished=True
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_each_line_is_written_as_it_is_read(line: str) -> None:
    assert LINES[line].line() == line
    assert JournalEntry.read(line) == JournalEntry.read(line.encode()) == LINES[line]
