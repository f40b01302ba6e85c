"""What the two networks' outputs mean, and how CenterFace's file is made fit for any size."""

import numpy as np
import pytest

from services.detect.boxes import Floats
from services.detect.centerface import decode as decode_centerface
from services.detect.centerface import with_any_size
from services.detect.yunet import decode as decode_yunet

SIDES_IN_THE_FILE = {
    "input.1": b"\n\x07input.1\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\n\n\x02\x08\x03\n\x02\x08 \n\x02\x08 ",
    "537": b"\n\x03537\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\n\n\x02\x08\x01\n\x02\x08\x08\n\x02\x08\x08",
    "538": b"\n\x03538\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\n\n\x02\x08\x02\n\x02\x08\x08\n\x02\x08\x08",
    "539": b"\n\x03539\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\n\n\x02\x08\x02\n\x02\x08\x08\n\x02\x08\x08",
    "540": b"\n\x03540\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\n\n\x02\x08\n\n\x02\x08\x08\n\x02\x08\x08",
}
"""As they lie in the file, in its order."""


def yunet_outputs(stride: int, cell: int, box: list[float], side: int = 64) -> list[Floats]:
    sizes = [(side // each) ** 2 for each in (8, 16, 32)]
    shapes = [(count, width) for width in (1, 1, 4, 10) for count in sizes]
    outputs = [np.zeros(shape, np.float32) for shape in shapes]
    level = (8, 16, 32).index(stride)
    outputs[level][cell] = outputs[3 + level][cell] = 0.81
    outputs[6 + level][cell] = box
    outputs[9 + level][cell] = 0.5
    return outputs


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_cell_of_yunet_becomes_a_box_in_pixels(stride: int) -> None:
    columns = 64 // stride
    cell = columns + 1  # second row, second column
    decoded = decode_yunet(yunet_outputs(stride, cell, [0.5, 0.25, 0, 0]), 64, 0.7)
    assert decoded.boxes.tolist() == [[stride, 0.75 * stride, stride, stride]]
    assert decoded.scores == pytest.approx([0.81])
    assert decoded.landmarks is not None
    assert (decoded.landmarks == 1.5 * stride).all()


def test_a_cell_of_yunet_below_the_threshold_is_nothing() -> None:
    assert len(decode_yunet(yunet_outputs(8, 3, [0, 0, 0, 0]), 64, 0.82)) == 0


def centerface_outputs(row: int, column: int, likely: float) -> list[Floats]:
    """Of a canvas of 64x32: a face of 8x12 pixels, its middle half a cell further and a quarter down."""
    values = ([likely], [np.log(3), np.log(2)], [0.25, 0.5], [0.25, 0.5] * 5)
    outputs = [np.zeros((len(each), 8, 16), np.float32) for each in values]
    for output, each in zip(outputs, values, strict=True):
        output[:, row, column] = np.array(each)
    return outputs


def test_a_cell_of_centerface_becomes_a_box_in_pixels() -> None:
    found = decode_centerface(centerface_outputs(5, 3, 0.5), 64, 0.6)
    middle_x, middle_y = (3 + 0.5 + 0.5) * 4, (5 + 0.5 + 0.25) * 4
    assert found.boxes == pytest.approx(np.array([[middle_x - 4, middle_y - 6, 8, 12]]))
    assert found.boxes.dtype == np.float32
    assert found.landmarks is not None
    assert found.landmarks.shape == (1, 5, 2)
    assert found.landmarks[0] == pytest.approx(np.array([[middle_x, middle_y - 3]] * 5))
    assert found.scores == pytest.approx([0.7])


@pytest.mark.parametrize(("likely", "score"), [(0.01, 0.0230), (0.5, 0.7), (0.2917, 0.49), (0.95, 0.9779)])
def test_a_score_of_centerface_means_about_what_one_of_yunet_does(likely: float, score: float) -> None:
    outputs = centerface_outputs(0, 0, likely)
    assert decode_centerface(outputs, 64, score - 1e-3).scores == pytest.approx([score], abs=1e-4)
    assert len(decode_centerface(outputs, 64, score + 1e-3)) == 0


def test_the_file_says_nothing_of_sizes_any_more_and_is_otherwise_the_same() -> None:
    weights = bytes(range(256)) * 10
    model = b"\x08\x04" + weights + b"".join(SIDES_IN_THE_FILE.values())
    fit = with_any_size(model)
    assert fit.startswith(b"\x08\x03" + weights)
    assert len(fit) == len(model)
    ends = fit[2 + len(weights) :]
    for name, said in SIDES_IN_THE_FILE.items():
        described, ends = ends[: len(said)], ends[len(said) :]
        channels = said[-9:-8]
        assert described[:-16] == said[:-16], name
        assert described[-16:] == b"\n\x02\x12\x00\n\x02\x08" + channels + b"\n\x02\x12\x00" * 2


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (b"", "first bytes"),
        (b"\x08\x07" + b"".join(SIDES_IN_THE_FILE.values()), "first bytes"),
        (b"\x08\x04" + b"".join(list(SIDES_IN_THE_FILE.values())[:-1]), "'540'"),
        (b"\x08\x04" + b"".join([*SIDES_IN_THE_FILE.values(), SIDES_IN_THE_FILE["538"]]), "'538'"),
    ],
)
def test_another_model_is_not_made_fit(model: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        with_any_size(model)
