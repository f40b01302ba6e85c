"""What a JPEG asks of whoever decodes it: told from its headers, and bounded.

A decoder keeps the coefficients of a picture of several scans until the last of them, two bytes a sample, and
goes through its blocks once more with each scan, which may be no longer than its header. See "Two Issues with
the JPEG Standard" by libjpeg-turbo's author.
"""

import struct
from typing import NamedTuple

from services.common.errors import Refused

MAX_SCANS = 100
"""Encoders make about ten, some up to 65. LibreOffice draws the line here, libjpeg-turbo's fuzzers at 500."""
MAX_KEPT_SAMPLES = 96_000_000
"""64 megapixels with halved colours, 192 MB of coefficients."""
MAX_SCANNED_SAMPLES = 1_000_000_000
"""What all scans go through together: ten scans of the largest picture that is kept. Half a second, about."""

_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_BLOCK_PX = 8


class FrameHeader(NamedTuple):
    """What a frame header says; ITU-T T.81, B.2.2.

    Attributes:
        marker: the second byte of its marker, which names the coding.
        precision: bits of a sample.
        width: in pixels.
        height: likewise.
        components: each component's identifier and its samples, those that fill up the last blocks included.
    """

    marker: int
    precision: int
    width: int
    height: int
    components: tuple[tuple[int, int], ...]

    @property
    def samples(self) -> int:
        """All components' together."""
        return sum(samples for _, samples in self.components)

    def keeps_coefficients(self, first_scan_components: int) -> bool:
        """Say whether a decoder has to keep all coefficients, by how many components the first scan has."""
        return self.marker not in _SEQUENTIAL or first_scan_components < len(self.components)


def read_frame_header(marker: int, content: bytes | memoryview) -> FrameHeader:
    """Read a frame header.

    Args:
        marker: its marker's second byte.
        content: what follows its length.

    Raises:
        Refused: `bad_image`: no decoder of JPEGs with one to four components takes it.
    """
    if len(content) < 6:
        raise Refused("bad_image", "short frame header")
    precision, height, width, count = struct.unpack_from(">BHHB", content)
    factors = [
        (content[at], content[at + 1] >> 4, content[at + 1] & 15) for at in range(6, len(content) - 2, 3)
    ]
    if not 1 <= count <= 4 or len(content) != 6 + 3 * count:
        raise Refused("bad_image", f"a frame header of {count} components and {len(content)} bytes")
    if any(not 1 <= wide <= 4 or not 1 <= high <= 4 for _, wide, high in factors):
        raise Refused("bad_image", "a sampling factor that is none")
    across = -(-width // (_BLOCK_PX * max(wide for _, wide, _ in factors)))
    down = -(-height // (_BLOCK_PX * max(high for _, _, high in factors)))
    units = across * down * _BLOCK_PX * _BLOCK_PX
    return FrameHeader(
        marker, precision, width, height, tuple((name, units * wide * high) for name, wide, high in factors)
    )


class Work:
    """Adds up what the scans of one picture ask for.

    Args:
        frame: the picture's frame header.
    """

    def __init__(self, frame: FrameHeader) -> None:
        self.frame = frame
        self.scans = 0
        self._scanned = 0

    def add_scan(self, header: bytes | memoryview) -> None:
        """Take a scan's header, what follows its length, into account.

        Raises:
            Refused: `too_many_scans`, `too_much_to_decode`, or `bad_image` for a header that is none.
        """
        count = header[0] if header else 0
        if not 1 <= count <= 4 or len(header) != 4 + 2 * count:
            raise Refused("bad_image", f"a scan header of {count} components and {len(header)} bytes")
        self.scans += 1
        if self.scans > MAX_SCANS:
            raise Refused("too_many_scans", f"more than {MAX_SCANS}")
        if count == len(self.frame.components):
            self._scanned += self.frame.samples
        else:
            self._scanned += sum(map(self._samples_of, header[1 : 1 + 2 * count : 2]))
        check_work(self.frame.samples if self._keeps(count) else 0, self._scanned)

    def _keeps(self, count: int) -> bool:
        return self.scans == 1 and self.frame.keeps_coefficients(count)

    def _samples_of(self, name: int) -> int:
        """Return a component's samples, the most of those that share its name."""
        return max((samples for other, samples in self.frame.components if other == name), default=0)


def check_work(kept: int, scanned: int) -> None:
    """Check how many samples are kept, and how many all scans go through.

    Raises:
        Refused: `too_much_to_decode`.
    """
    if kept > MAX_KEPT_SAMPLES:
        raise Refused("too_much_to_decode", f"{kept} samples to keep, {MAX_KEPT_SAMPLES} allowed")
    if scanned > MAX_SCANNED_SAMPLES:
        raise Refused("too_much_to_decode", f"{scanned} samples in all scans, {MAX_SCANNED_SAMPLES} allowed")
