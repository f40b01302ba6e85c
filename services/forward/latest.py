"""The pictures that the local broker keeps, one a camera: taken back where they were erased."""

from collections.abc import Callable, Sequence

from services.common.erasure.selection import Selection
from services.common.mqtt import LinkDown
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.topics import Source, camera_topic

MOST_CAMERAS = 1_024
"""Names come from the device's broker."""
_NONE = ("", None)
"""In place of a face's id and visit: no picture is kept."""


class Latest:
    """Knows of which cameras a picture is kept, and takes back those that were erased.

    What an earlier process has left there is not known: it is taken back where it may be one of them.

    Args:
        publish: sends to the local broker.
    """

    def __init__(self, publish: Callable[[Message], None]) -> None:
        self._publish = publish
        self._faces: dict[Source, tuple[str, str | None] | None] = {}
        self._erased: list[Selection] = []
        self._wanted: set[Source] = set()

    def knows(self, source: Source) -> None:
        """Note that there is a camera, of which a picture may be kept."""
        if source not in self._faces and len(self._faces) < MOST_CAMERAS:
            self._faces[source] = None
            self._want_back(source, self._erased)
            self.link_up()

    def came(self, face: Face) -> None:
        """Note a face whose picture is kept from now on."""
        if face.source in self._faces or len(self._faces) < MOST_CAMERAS:
            self._faces[face.source] = (face.id, face.extensions.get("visit"))

    def erase(self, selection: Selection) -> None:
        """Take back whatever may be of a selection; at the next connection, if there is none."""
        self._erased.append(selection)
        for source in self._faces:
            self._want_back(source, [selection])
        self.link_up()

    def link_up(self) -> None:
        """Take back what is to be."""
        for source in sorted(self._wanted):
            try:
                self._publish(Message(topic=camera_topic(source, "latest"), qos=1, retain=True))
            except LinkDown:
                return
            self._wanted.discard(source)
            self._faces[source] = _NONE

    def _want_back(self, source: Source, selections: Sequence[Selection]) -> None:
        known = self._faces[source]
        if any(_may_take(each, source, known) for each in selections):
            self._wanted.add(source)


def _may_take(selection: Selection, source: Source, known: tuple[str, str | None] | None) -> bool:
    if known is not None:
        return selection.takes(source, *known)
    return selection.device in (None, source.device) and selection.camera in (None, source.camera)
