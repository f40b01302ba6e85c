import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.images.jpeg import segments, with_orientation
from services.common.images.structure import inspect
from services.detect import codec
from services.detect.codec import BgrImage, JpegImage
from tests.odd_jpeg import odd_jpeg

NOISE = np.random.default_rng(1).integers(0, 255, (96, 128, 3), dtype=np.uint8)
SMOOTH = np.asarray(cv2.GaussianBlur(NOISE, (0, 0), 3), np.uint8)
JPEG = codec.encode_jpeg(SMOOTH, 90)
ODD = odd_jpeg(128, 96)
REASONS = {"not_an_image", "bad_image", "truncated_image", "bad_dimensions", "bad_content_type"}


def without_tables(jpeg: bytes) -> bytes:
    """Leave a JPEG's Huffman tables out."""
    kept, behind = jpeg[:2], 2
    for segment in segments(jpeg):
        if segment.marker != 0xC4:
            kept += jpeg[segment.start - 4 : segment.end]
        behind = segment.end
    return kept + jpeg[behind:]


def encoded(*parameters: int) -> bytes:
    return cv2.imencode(".jpg", SMOOTH, list(parameters))[1].tobytes()


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        JpegImage.open(data).decode()
    return caught.value.reason


def difference(picture: BgrImage) -> float:
    return float(np.abs(picture.astype(int) - SMOOTH).mean())


SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_colour_sampling_is_decoded(sampling: int) -> None:
    assert difference(JpegImage.open(encoded(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)).decode()) < 5


def test_progressive_and_restart_markers_are_decoded() -> None:
    assert difference(JpegImage.open(encoded(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)).decode()) < 5
    assert difference(JpegImage.open(encoded(cv2.IMWRITE_JPEG_RST_INTERVAL, 1)).decode()) < 5


def test_grey_is_decoded_to_three_channels() -> None:
    grey = cv2.imencode(".jpg", SMOOTH[:, :, 0])[1].tobytes()
    assert JpegImage.open(grey).decode().shape == (96, 128, 3)


def test_opencv_decodes_what_libjpeg_turbo_has_no_name_for() -> None:
    jpeg = JpegImage(JPEG, 128, 96, is_plain=False)
    assert difference(jpeg.decode()) < 5
    assert jpeg.decode(32, 24).shape == (24, 32, 3)
    assert jpeg.decode(33, 24).shape == (48, 64, 3)


def test_opencv_is_given_no_garbage_to_shout_about(capfd: pytest.CaptureFixture[str]) -> None:
    refusal(b"\xff\xd8\xff" + bytes(1_000))
    assert capfd.readouterr().err == ""


@given(st.integers(1, 200), st.integers(1, 200))
def test_reduced_picture_is_never_below_what_was_asked_for(width: int, height: int) -> None:
    picture = JpegImage.open(JPEG).decode(width, height)
    assert picture.shape[1] >= min(width, 128)
    assert picture.shape[0] >= min(height, 96)
    assert picture.shape[1] <= 128


def test_quarter_of_the_size_is_decoded_at_a_quarter() -> None:
    assert JpegImage.open(JPEG).decode(32, 24).shape == (24, 32, 3)


def test_missing_end_marker_and_padding_behind_it_are_forgiven() -> None:
    whole = JpegImage.open(JPEG).decode()
    assert np.array_equal(JpegImage.open(JPEG[:-2]).decode(), whole)
    assert np.array_equal(JpegImage.open(JPEG + bytes(4096)).decode(), whole)


def test_what_follows_the_end_of_an_odd_sampling_is_forgiven_like_that_of_any_other() -> None:
    whole = JpegImage.open(ODD).decode()
    for padded in (ODD + bytes(4), ODD + b"\r\n", ODD + bytes(4096), ODD + b"any garbage", ODD[:-2]):
        jpeg = JpegImage.open(padded)
        assert not jpeg.is_plain
        assert np.array_equal(jpeg.decode(), whole)
        assert jpeg.decode(32, 24).shape == (24, 32, 3)
    assert refusal(ODD[: len(ODD) // 2]) == "truncated_image"


def test_huffman_tables_that_are_left_out_are_the_usual_ones() -> None:
    # As AVI files and webcams have it, whose tables are always those of T.81, annex K.
    bare = without_tables(JPEG)
    assert len(bare) < len(JPEG) - 400
    assert np.array_equal(JpegImage.open(bare).decode(), JpegImage.open(JPEG).decode())


def test_picture_that_lacks_its_last_rows_is_taken_and_one_that_lacks_more_is_not() -> None:
    large = cv2.imencode(".jpg", cv2.resize(SMOOTH, (640, 480)))[1].tobytes()
    picture = JpegImage.open(large[: -len(large) // 40]).decode()
    assert picture.shape == (480, 640, 3)
    assert refusal(large[: -len(large) // 8]) == "truncated_image"


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("source", ["plain", "odd"])
def test_a_picture_is_upright_however_it_is_stored(turn: int, source: str) -> None:
    stored = with_orientation(JPEG if source == "plain" else ODD, turn)
    shown = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    jpeg = JpegImage.open(stored)
    assert (jpeg.height, jpeg.width) == shown.shape[:2]
    decoded = jpeg.decode()
    assert decoded.shape == shown.shape
    assert np.abs(decoded.astype(int) - shown).mean() < 3
    half = jpeg.decode(jpeg.width // 2, jpeg.height // 2)
    assert half.shape == (jpeg.height // 2, jpeg.width // 2, 3)
    assert half.flags.c_contiguous


def test_picture_that_ends_early_is_refused() -> None:
    assert {refusal(JPEG[:end]) for end in range(len(JPEG) - 200)} <= REASONS
    assert refusal(JPEG[: len(JPEG) // 2]) == "truncated_image"


def test_absurd_claim_is_refused_before_a_pixel_is_decoded() -> None:
    header = JPEG.index(b"\xff\xc0")
    absurd = JPEG[: header + 5] + b"\xff\xff\xff\xff" + JPEG[header + 9 :]
    with pytest.raises(Refused, match="bad_dimensions"):
        JpegImage.open(absurd)


def test_png_is_no_frame() -> None:
    assert refusal(codec.encode_png(SMOOTH)) == "bad_content_type"


@given(st.binary(), st.sampled_from([b"", b"\xff\xd8\xff", JPEG[:300], JPEG[: len(JPEG) // 2]]))
def test_garbage_is_refused_or_decoded_and_never_crashes(garbage: bytes, start: bytes) -> None:
    try:
        picture = JpegImage.open(start + garbage).decode()
    except Refused as error:
        assert error.reason in REASONS  # noqa: PT017 - both outcomes are right
    else:
        assert picture.shape == (96, 128, 3)


@given(st.lists(st.tuples(st.integers(2, len(JPEG) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_are_refused_or_decoded_and_never_crash(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(JPEG)
    for position, value in changes:
        damaged[position] = value
    try:
        jpeg = JpegImage.open(bytes(damaged))
        assert jpeg.decode().shape == (jpeg.height, jpeg.width, 3)
    except Refused as error:
        assert error.reason in REASONS  # noqa: PT017 - both outcomes are right


def test_encoders_are_deterministic_and_make_what_the_store_takes() -> None:
    part = NOISE[10:60, 20:90]
    assert codec.encode_jpeg(part, 95) == codec.encode_jpeg(part.copy(), 95)
    assert inspect(codec.encode_jpeg(part, 95)).width == 70
    decoded = cv2.imdecode(np.frombuffer(codec.encode_png(part), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.array_equal(decoded, part)


def test_blurred_face_is_less_sharp_at_every_size() -> None:
    for size in (64, 128, 400):
        sharp = codec.resize(NOISE, size, size)
        blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), size / 40), np.uint8)
        assert codec.sharpness(blurred) < codec.sharpness(sharp) / 2


def test_flat_picture_has_no_sharpness() -> None:
    assert codec.sharpness(np.full((1, 1, 3), 7, np.uint8)) == 0
