from dataclasses import dataclass

from services.common.message import Message


@dataclass(frozen=True, slots=True)
class SpooledFace:
    """A face in forward's custody.

    Attributes:
        sequence: its place in the spool; grows in the order of arrival.
        id: the face's id.
        message: as it came from detect.
    """

    sequence: int
    id: str
    message: Message

    @property
    def size_bytes(self) -> int:
        """What it weighs on the way and on disk, nearly."""
        return len(self.message.payload) + 512
