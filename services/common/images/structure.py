"""Checks the structure of a JPEG or a PNG, and what decoding it would cost, without decoding a pixel."""

from dataclasses import dataclass

from services.common.errors import Refused
from services.common.images import png
from services.common.images.jpeg import SOS, START, START_OF_FRAME, DecodingCost, read_frame_header, walk

MAX_PIXELS = 64_000_000
PADDING = b"\x00\xff\r\n"
MAX_PADDING_BYTES = 64 * 1024
"""What cameras and their drivers leave after an image's end: the rest of a buffer, a protocol's line end.
Capture accepts the same."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image's content type, and its width and height in pixels as stored (not turned by Exif)."""

    content_type: str
    width: int
    height: int


def is_image(data: bytes) -> bool:
    """Return whether this begins like a JPEG or a PNG."""
    return data.startswith((START, png.SIGNATURE))


def inspect(image: bytes) -> ImageInfo:
    """Return an image's type and size.

    Raises:
        Refused: `not_an_image`, `bad_image` (broken structure), `truncated_image`, `trailing_bytes`
            (more than padding follows its end), `bad_dimensions` (0, or more than `MAX_PIXELS`),
            `animated_image`, and `too_many_scans` or `too_much_to_decode` (decoding would cost too much).
    """
    info, end = _measure(image)
    behind_bytes = len(image) - end
    if behind_bytes > MAX_PADDING_BYTES or image[end:].strip(PADDING):
        raise Refused("trailing_bytes", f"{behind_bytes} bytes after the end")
    return info


def trim(image: bytes) -> tuple[bytes, ImageInfo]:
    """Return an image without the bytes that follow its end, whatever they are, and its type and size.

    For images that have no id yet: the same picture must become the same object, however its buffer was
    filled. Besides padding, a telephone's further pictures (MPF), its motion photo or a maker's notes may
    follow: none of these is the picture that a viewer shows.

    Raises:
        Refused: as `inspect`, except for `trailing_bytes`.
    """
    info, end = _measure(image)
    return image[:end], info


def check(image: bytes, content_type: str) -> None:
    """Check that a face's image is complete, harmless, and of the type that its message gives.

    Raises:
        Refused: as `inspect`, or `bad_content_type`.
    """
    info = inspect(image)
    if info.content_type != content_type:
        raise Refused("bad_content_type", f"{info.content_type} that claims to be {content_type}")


def _measure(image: bytes) -> tuple[ImageInfo, int]:
    if image.startswith(START):
        return _jpeg(image)
    if image.startswith(png.SIGNATURE):
        header, end = png.measure(image, MAX_PIXELS)
        return ImageInfo("image/png", header.width, header.height), end
    raise Refused("not_an_image", "neither JPEG nor PNG")


def _jpeg(image: bytes) -> tuple[ImageInfo, int]:
    work: DecodingCost | None = None
    last = 0
    for marker, start, end in walk(image):
        last = end
        if marker in START_OF_FRAME:
            work = _begun(work, marker, image[start:end])
        elif marker == SOS:
            if work is None:
                raise Refused("bad_image", "a scan before the frame header")
            work.add_scan(image[start:end])
    if work is None or not work.scans:
        raise Refused("bad_image", "no picture between start and end")
    return ImageInfo("image/jpeg", work.frame.width, work.frame.height), last


def _begun(work: DecodingCost | None, marker: int, content: bytes) -> DecodingCost:
    """Return the cost of a picture with this frame header; `work` must be None, a second one is refused."""
    if work is not None:
        raise Refused("bad_image", "two frame headers")
    frame = read_frame_header(marker, content)
    if not 0 < frame.width * frame.height <= MAX_PIXELS:
        raise Refused("bad_dimensions", f"{frame.width}x{frame.height}")
    return DecodingCost(frame)
