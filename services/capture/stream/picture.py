"""Pictures as a camera's program delivers them, and the interface of the readers that cut them out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from services.common.errors import FaceferryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# numpy takes 12 MB, and only cameras whose pictures are encoded here need it: what handles planes loads it.
Plane: TypeAlias = "NDArray[np.uint8]"

MAX_JPEG_BYTES = 32 * 1024 * 1024
"""A 64 megapixel JPEG of high quality; a larger one is skipped."""
END_MARK = b"\xff\xd9"
"""The end of a JPEG (EOI)."""


@dataclass(frozen=True, slots=True)
class JpegPicture:
    """A picture as its camera encoded it.

    Attributes:
        data: the JPEG, with whatever the camera has put into it.
        taken_unix_s: when it was taken, in seconds of Unix time; None where the source does not tell.
    """

    data: bytes
    taken_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class YuvPicture:
    """A decoded picture: YUV 4:2:0, full range, BT.601 as JFIF has it, 8 bits.

    Attributes:
        y: (H, W) uint8, brightness, contiguous, owned by this picture.
        u: (ceil(H / 2), ceil(W / 2)) uint8, blue chroma.
        v: like `u`, red chroma.
    """

    y: Plane
    u: Plane
    v: Plane


Picture: TypeAlias = JpegPicture | YuvPicture
OnPicture: TypeAlias = Callable[[Picture], Awaitable[float]]
"""Takes a camera's next picture; returns for how many seconds no other is worth reading, 0: none."""


class StreamBroken(FaceferryError):
    """What a program writes cannot be read any further; the program has to be started again."""


class PictureReader(Protocol):
    """Cuts a stream of bytes into pictures, whatever the size of the pieces it comes in.

    Attributes:
        skipped: how often bytes were skipped, by reason, since the caller cleared it.
    """

    skipped: dict[str, int]

    def buffer(self) -> "memoryview[Any]":
        """Return the memory for the next bytes; never empty, valid until `received`."""

    def received(self, count: int) -> Sequence[Picture]:
        """Take note that `count` bytes were put there; return the pictures they complete.

        Raises:
            StreamBroken: the rest cannot be read.
        """

    def ended(self) -> Sequence[Picture]:
        """Note that the stream has ended; return the picture that is left, if there is one."""


def count_skip(skipped: dict[str, int], reason: str) -> None:
    """Count one skip for `reason` in `skipped`."""
    skipped[reason] = skipped.get(reason, 0) + 1
