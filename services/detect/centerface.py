"""CenterFace (Xu and others: "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019)."""

from pathlib import Path

import numpy as np

from services.detect.boxes import NO_FACES, Detections, Floats, corners_of
from services.detect.network import Family

STRIDE = 4
"""A cell of the network's grid in pixels of the canvas."""
SURER = 7 / 3
"""The factor on the odds that the network gives a face, for a score that means about what YuNet's does: where
the network says 0.5, its authors' threshold, the score is 0.7.

At that score it finds no face in an empty room, like YuNet at 0.7, and finds nine tenths of YuNet's faces in
frames of real clips side by side, sixteen a picture."""

_SHAPES = {
    "input.1": (10, 3, 32, 32),
    "537": (10, 1, 8, 8),
    "538": (10, 2, 8, 8),
    "539": (10, 2, 8, 8),
    "540": (10, 10, 8, 8),
}
"""The shapes of the input and the outputs in the file: pictures, channels, height, width."""
_INPUT, *_OUTPUTS = _SHAPES
_OF_ANY_SIZE = b"\x12\x00"
_VERSION = b"\x08\x04"
_VERSION_OF_CONSTANT_WEIGHTS = b"\x08\x03"


def decode(outputs: list[Floats], canvas_width: int, threshold: float) -> Detections:
    """Return the candidates that CenterFace's outputs hold, in pixels of the canvas, in no order.

    After `CenterFace.decode` of its authors (github.com/Star-Clouds/CenterFace, prj-python/centerface.py):
    each cell is a candidate for a face whose middle lies there. Of each pair of numbers the vertical comes
    first: how far the middle is from the cell's, in cells; the logarithms of the sizes in cells; how far a
    landmark is from the top left corner, in parts of the box.

    Args:
        outputs: of one picture: how likely a face is (1, h, w), sizes (2, h, w), middles (2, h, w), landmarks
            (10, h, w).
        canvas_width: of the picture, a multiple of 32.
        threshold: the least score, 0..1.
    """
    likely, sizes, middles, landmarks = (each.reshape(len(each), -1) for each in outputs)
    cells = np.flatnonzero(likely[0] >= threshold / (SURER - (SURER - 1) * threshold))
    if not len(cells):
        return NO_FACES
    corners = corners_of(cells, canvas_width // STRIDE)
    size = np.exp(sizes[::-1, cells].T) * STRIDE
    start = (corners + middles[::-1, cells].T + 0.5) * STRIDE - size / 2
    points = landmarks[:, cells].T.reshape(-1, 5, 2)[:, :, ::-1] * size[:, None] + start[:, None]
    return Detections(np.hstack([start, size]), _surer(likely[0, cells]), points)


def _surer(likely: Floats) -> Floats:
    scores: Floats = SURER * likely / (1 + (SURER - 1) * likely)
    return scores


def with_any_size(model: bytes) -> bytes:
    """Return CenterFace's model for pictures of any number and size; the file is for ten of 32x32.

    The network takes any size; only the shapes that the file declares for its input and outputs name one.
    In them each side is overwritten in place: a number by an empty name, which is as long and means any size
    (`TensorShapeProto.Dimension` in onnx.proto). The file's version becomes 3, in which weights that are
    listed as inputs, as all are here, are constants: ONNX Runtime can only reorder constants for its fast
    convolutions.

    Args:
        model: the content of the file.

    Raises:
        ValueError: it is another model.
    """
    if not model.startswith(_VERSION):
        raise ValueError("this is not CenterFace's model: its first bytes are others")
    model = _VERSION_OF_CONSTANT_WEIGHTS + model.removeprefix(_VERSION)
    for name, sides in _SHAPES.items():
        said = [bytes([0x08, side]) for side in sides]
        if model.count(_described(name, said)) != 1:
            raise ValueError(f"this is not CenterFace's model: it says something else of {name!r}")
        meant = [_OF_ANY_SIZE, said[1], _OF_ANY_SIZE, _OF_ANY_SIZE]
        model = model.replace(_described(name, said), _described(name, meant))
    return model


def _described(name: str, dimensions: list[bytes]) -> bytes:
    """Return a `ValueInfoProto`: a name, and a tensor of floats with these dimensions."""
    shape = b"".join(_field(1, dimension) for dimension in dimensions)
    return _field(1, name.encode()) + _field(2, _field(1, b"\x08\x01" + _field(2, shape)))


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message, of less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _content(path: Path) -> bytes:
    return with_any_size(path.read_bytes())


CENTERFACE = Family(
    kind="centerface",
    title="CenterFace",
    input_name=_INPUT,
    outputs=tuple(_OUTPUTS),
    is_rgb=True,
    decode=decode,
    content=_content,
)
