"""The readers: whatever comes down the pipe, in whatever pieces, they neither crash nor hoard."""

import io
import random
from collections.abc import Sequence

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from services.capture.stream.jpegs import JpegReader
from services.capture.stream.multipart import MAX_HEADER_BYTES, MultipartReader, is_jpeg, is_whole_jpeg
from services.capture.stream.picture import JpegPicture, Picture, PictureReader, StreamBroken, YuvPicture
from services.capture.stream.y4m import Y4mReader, parse_header

LIMIT = 20_000
CHUNK = 256 * 1024


def jpeg(seed: int, side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    data: bytes = simplejpeg.encode_jpeg(pixels, quality=90)
    return data


JPEGS = [jpeg(seed) for seed in range(6)]
pieces = st.lists(st.integers(1, 5_000), min_size=1, max_size=40)


def feed(reader: PictureReader, data: bytes, sizes: Sequence[int] = (CHUNK,)) -> list[Picture]:
    """Give a reader the bytes in pieces of these sizes, over and over."""
    source, turn = io.BytesIO(data), 0
    pictures: list[Picture] = []
    while source.tell() < len(data):
        view = reader.buffer()
        piece = source.read(min(len(view), sizes[turn % len(sizes)]))
        view[: len(piece)] = piece
        pictures += reader.received(len(piece))
        turn += 1
    return pictures


def bodies(pictures: Sequence[Picture]) -> list[bytes]:
    return [picture.data for picture in pictures if isinstance(picture, JpegPicture)]


def part(body: bytes, length: int | None = None, extra: str = "") -> bytes:
    length_line = f"Content-length: {len(body) if length is None else length}\r\n" if length != -1 else ""
    return f"--ffmpeg\r\nContent-type: image/jpeg\r\n{length_line}{extra}\r\n".encode() + body + b"\r\n"


@given(pieces)
def test_multipart_gives_back_the_very_bytes_whatever_the_pieces(sizes: list[int]) -> None:
    stream = b"".join(map(part, JPEGS))
    assert bodies(feed(MultipartReader(), stream, sizes)) == JPEGS


@given(pieces)
def test_parts_without_a_length_end_at_the_boundary(sizes: list[int]) -> None:
    stream = b"".join(part(body, -1) for body in JPEGS) + b"--ffmpeg\r\n"
    assert bodies(feed(MultipartReader(), stream, sizes)) == JPEGS


def test_the_memory_for_the_largest_part_is_used_again() -> None:
    large = jpeg(7, side=1_000)
    reader = MultipartReader()
    assert bodies(feed(reader, part(large) + part(JPEGS[0]))) == [large, JPEGS[0]]
    memory = reader.buffer().obj
    assert bodies(feed(reader, part(JPEGS[1]) + part(large) * 3)) == [JPEGS[1], large, large, large]
    assert reader.buffer().obj is memory


def test_line_ends_of_one_byte_and_a_preamble_are_understood() -> None:
    stream = b"HTTP/1.0 200 OK\nhello\n" + part(JPEGS[0]).replace(b"\r\n", b"\n") + part(JPEGS[1])
    reader = MultipartReader()
    assert bodies(feed(reader, stream))[-1] == JPEGS[1]


def test_time_that_a_camera_tells_is_kept() -> None:
    (picture,) = feed(MultipartReader(), part(JPEGS[0], extra="X-Timestamp: 1700000000.250000\r\n"))
    assert isinstance(picture, JpegPicture)
    assert picture.taken_unix_s == 1700000000.25


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (part(JPEGS[0][:90], len(JPEGS[0])), "not_a_jpeg"),
        (part(JPEGS[0][:90]), "not_a_jpeg"),
        (part(JPEGS[0][1:]), "not_a_jpeg"),
        (part(b"no jpeg at all"), "not_a_jpeg"),
        (part(b""), "not_a_jpeg"),
        (part(JPEGS[0], 10**11), "too_large"),
        (part(JPEGS[0], LIMIT + 1), "too_large"),
        (b"--ffmpeg\r\n" + b"x" * (MAX_HEADER_BYTES + 1), "bad_header"),
        (b"\xff" * 5_000, "garbage"),
    ],
)
def test_bad_part_is_counted_and_the_next_one_arrives(bad: bytes, reason: str) -> None:
    reader = MultipartReader(LIMIT)
    pictures = feed(reader, part(JPEGS[1]) + bad + b"\r\n" + part(JPEGS[2]) + part(JPEGS[3]))
    assert bodies(pictures)[0] == JPEGS[1]
    assert bodies(pictures)[-1] == JPEGS[3]
    assert reader.skipped[reason] >= 1


CUT = JPEGS[0][:-20]
"""Whether such a picture is good enough, its decoder decides."""


@pytest.mark.parametrize("length", [None, -1, len(JPEGS[0]), len(JPEGS[0]) + 50])
@pytest.mark.parametrize("body", [JPEGS[0], JPEGS[0][:-2], JPEGS[0] + b"garbage", CUT], ids=len)
@given(sizes=pieces)
def test_part_that_is_incomplete_at_its_end_is_taken_and_costs_the_next_nothing(
    body: bytes, length: int | None, sizes: list[int]
) -> None:
    stream = part(JPEGS[1]) + part(body, length) + part(JPEGS[2]) + part(JPEGS[3])
    first, taken, *rest = bodies(feed(MultipartReader(), stream, sizes))
    assert first == JPEGS[1]
    assert body.startswith(taken.rstrip(b"\r\n"))
    assert taken.startswith(CUT)
    assert rest == JPEGS[2:4]


@pytest.mark.parametrize("length", [None, -1])
@pytest.mark.parametrize("cut", [1, 2, 3, 20])
def test_last_part_of_a_stream_needs_neither_a_boundary_nor_all_its_bytes(
    length: int | None, cut: int
) -> None:
    reader = MultipartReader()
    stream = part(JPEGS[1]) + part(JPEGS[0], length)[:-cut]
    *_, last = bodies([*feed(reader, stream), *reader.ended()])
    assert last[: len(CUT)] == CUT
    assert len(last) <= len(JPEGS[0]) + 2


def test_end_of_a_stream_makes_no_picture_out_of_what_is_none() -> None:
    for tail in (
        b"",
        b"--ffmpeg",
        b"--ffmpeg\r\n",
        part(JPEGS[0])[:50],
        part(JPEGS[0])[:150],
        part(b"text", 99),
    ):
        reader = MultipartReader()
        assert bodies([*feed(reader, part(JPEGS[1]) + tail), *reader.ended()]) == [JPEGS[1]]


@given(sizes=pieces)
def test_jpeg_without_an_end_mark_ends_where_the_next_begins_or_with_the_stream(sizes: list[int]) -> None:
    reader = JpegReader()
    stream = JPEGS[0][:-2] + JPEGS[1] + JPEGS[2][:-2]
    assert bodies([*feed(reader, stream, sizes), *reader.ended()]) == [JPEGS[0][:-2], JPEGS[1], JPEGS[2][:-2]]
    assert reader.skipped == {}


def check_never_hoards(reader: MultipartReader | JpegReader, data: bytes, sizes: Sequence[int]) -> None:
    for body in bodies([*feed(reader, data, sizes), *reader.ended()]):
        assert is_jpeg(body)
    assert reader.held_bytes <= LIMIT + MAX_HEADER_BYTES + CHUNK


@given(
    st.lists(st.one_of(st.binary(max_size=300), st.sampled_from([*map(part, JPEGS), *JPEGS])), max_size=30),
    pieces,
)
def test_no_stream_makes_multipart_crash_or_hoard(parts: list[bytes], sizes: list[int]) -> None:
    check_never_hoards(MultipartReader(LIMIT), b"".join(parts), sizes)


@given(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(JPEGS)), max_size=30), pieces)
def test_no_stream_makes_the_jpeg_reader_crash_or_hoard(parts: list[bytes], sizes: list[int]) -> None:
    check_never_hoards(JpegReader(LIMIT), b"".join(parts), sizes)


def damaged(randomness: random.Random) -> bytes:
    """Return a stream that was fine before parts of it were cut, doubled and flipped."""
    stream = bytearray(b"".join(part(body, randomness.choice([None, -1])) for body in JPEGS))
    for _ in range(randomness.randrange(1, 12)):
        at, length = randomness.randrange(len(stream)), randomness.randrange(1, 400)
        match randomness.randrange(4):
            case 0:
                del stream[at : at + length]
            case 1:
                stream[at:at] = stream[at : at + length]
            case 2:
                stream[at] ^= 1 << randomness.randrange(8)
            case 3:
                stream[at:at] = randomness.randbytes(length)
    return bytes(stream)


@pytest.mark.parametrize("reader", [MultipartReader, JpegReader])
def test_two_thousand_damaged_streams_are_survived_and_left_behind(
    reader: type[MultipartReader] | type[JpegReader],
) -> None:
    randomness = random.Random(20_260_131)
    for _ in range(2_000):
        one = reader(LIMIT)
        check_never_hoards(one, damaged(randomness), [randomness.randrange(1, 9_000)])
        # However bad it was, good parts get through again.
        good = b"".join(map(part, JPEGS * 8)) if reader is MultipartReader else b"".join(JPEGS * 8)
        assert bodies(feed(one, good))[-1:] == JPEGS[-1:]


def test_endless_garbage_is_thrown_away_as_it_comes() -> None:
    for reader in (MultipartReader(LIMIT), JpegReader(LIMIT)):
        feed(reader, random.Random(1).randbytes(4_000_000))
        assert reader.held_bytes <= LIMIT + MAX_HEADER_BYTES + CHUNK


@given(pieces)
def test_jpegs_in_a_row_are_cut_where_they_end(sizes: list[int]) -> None:
    reader = JpegReader()
    assert bodies(feed(reader, b"".join(JPEGS), sizes)) == JPEGS
    assert reader.held_bytes == 0
    assert reader.skipped == {}


def test_thumbnail_within_a_jpeg_does_not_end_it() -> None:
    thumbnail = jpeg(99, 16)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    outer = JPEGS[0][:2] + segment + JPEGS[0][2:]
    assert bodies(feed(JpegReader(), outer + JPEGS[1])) == [outer, JPEGS[1]]


def test_padding_behind_a_jpeg_is_let_through_and_nothing_else_is() -> None:
    assert is_whole_jpeg(JPEGS[0])
    assert is_whole_jpeg(JPEGS[0] + b"\x00" * 1000)
    assert not is_whole_jpeg(JPEGS[0] + b"more")
    assert not is_whole_jpeg(JPEGS[0][:-2])
    assert not is_whole_jpeg(b"\xff\xd8\xff\xd9")
    assert not is_whole_jpeg(b"")


def y4m(
    width: int, height: int, frames: int, colours: str = " C420jpeg XCOLORRANGE=FULL"
) -> tuple[bytes, list[bytes]]:
    size = width * height + 2 * (-(-width // 2) * -(-height // 2))
    planes = [bytes([number % 256]) * size for number in range(frames)]
    head = f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1{colours}\n".encode()
    return head + b"".join(b"FRAME\n" + one for one in planes), planes


@given(st.integers(2, 41), st.integers(2, 31), pieces)
def test_raw_pictures_come_whole_whatever_their_size_and_the_pieces(
    width: int, height: int, sizes: list[int]
) -> None:
    stream, planes = y4m(width, height, 3)
    pictures = feed(Y4mReader(), stream, sizes)
    assert [
        one.y.tobytes() + one.u.tobytes() + one.v.tobytes() for one in pictures if isinstance(one, YuvPicture)
    ] == planes
    assert all(isinstance(one, YuvPicture) and one.y.shape == (height, width) for one in pictures)


def test_frame_lines_may_have_parameters() -> None:
    stream, planes = y4m(4, 2, 1)
    (picture,) = feed(Y4mReader(), stream.replace(b"FRAME\n", b"FRAME Ip\n"))
    assert isinstance(picture, YuvPicture)
    assert picture.y.tobytes() == planes[0][:8]


@pytest.mark.parametrize(
    "stream",
    [
        b"P6 3 3 255\n",
        b"YUV4MPEG2 W4 H4 C444\n",
        b"YUV4MPEG2 W4 H4 C420p10\n",
        b"YUV4MPEG2 W99999 H99999\n",
        b"YUV4MPEG2 W0 H4\n",
        b"YUV4MPEG2 W4\n",
        b"YUV4MPEG2 W4 H4 C420jpeg\nPICTURE\n",
        b"\xff" * 2000,
    ],
)
def test_stream_that_is_not_raw_video_is_broken(stream: bytes) -> None:
    with pytest.raises(StreamBroken):
        feed(Y4mReader(), stream)


@given(st.binary(max_size=600))
def test_no_header_does_worse_than_break_the_stream(line: bytes) -> None:
    try:
        width, height = parse_header(b"YUV4MPEG2 " + line)
    except StreamBroken:
        return
    assert width > 0 < height
