"""What a camera's program delivers, and what all readers of it have in common."""

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
"""A 64 megapixel JPEG of high quality; more than this is not waited for."""


@dataclass(frozen=True, slots=True)
class JpegPicture:
    """A picture as its camera encoded it.

    Attributes:
        data: the bytes as they came.
        taken_unix_s: when it was taken, if the source told.
    """

    data: bytes
    taken_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class YuvPicture:
    """A decoded picture: YUV 4:2:0, full range, BT.601 as JFIF has it, 8 bits.

    Attributes:
        y: (H, W), contiguous, owned by whoever holds the picture.
        u: (ceil(H / 2), ceil(W / 2)).
        v: the same.
    """

    y: Plane
    u: Plane
    v: Plane


Picture: TypeAlias = JpegPicture | YuvPicture
OnPicture: TypeAlias = Callable[[Picture], Awaitable[float]]
"""Takes a camera's next picture; returns for how many seconds no other is worth reading."""


class StreamBroken(FaceferryError):
    """What comes from the program cannot be read any further; it must be started anew."""


class PictureReader(Protocol):
    """Cuts a stream of bytes into pictures, whatever the size of the pieces it comes in.

    Attributes:
        skipped: how often something had to be skipped, by reason, since the last look.
    """

    skipped: dict[str, int]

    def buffer(self) -> "memoryview[Any]":
        """Return where the next bytes belong; never empty, good until `received`."""

    def received(self, count: int) -> Sequence[Picture]:
        """Take note that `count` bytes were put there; return the pictures they complete.

        Raises:
            StreamBroken: see there.
        """

    def ended(self) -> Sequence[Picture]:
        """Take note that nothing more will come; return the picture that is left, if one is."""


def count_skip(skipped: dict[str, int], reason: str) -> None:
    """Count one of `reason`."""
    skipped[reason] = skipped.get(reason, 0) + 1
