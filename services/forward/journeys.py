from typing import TYPE_CHECKING

from services.common.runtime import tracing
from services.forward.spool.face import SpooledFace

if TYPE_CHECKING:
    from services.common.runtime.spans import Span


class Journeys:
    """Traces of faces on their way to the store: one from the first send to the receipt, in each connection.

    It is a trace of its own, linked with the one that has led into the spool: between the two a face may have
    waited for days.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, Span] = {}

    def begin(self, face: SpooledFace) -> tuple[tuple[str, str], ...]:
        """Return the attributes that a face goes out with, now or again."""
        if not tracing.is_on():
            return face.message.attributes
        span = self._under_way.get(face.id)
        if span is None:
            span = tracing.follow("forward send", tracing.in_message(face.message), id=face.id)
            self._under_way[face.id] = span
        return tracing.with_place(face.message, span)

    def end(self, face_id: str, problem: str | None = None) -> None:
        """Note that a face is receipted, or why it will not be."""
        if (span := self._under_way.pop(face_id, None)) is not None:
            span.end(problem)

    def cut_short(self) -> None:
        """Note that the connection is lost: all are sent again."""
        for span in self._under_way.values():
            span.end("link_lost")
        self._under_way.clear()
