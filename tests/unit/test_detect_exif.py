import io
import json
import shutil
import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.common.images import structure
from services.common.wire.topics import NAME_PATTERN, Source
from services.detect import codec, finishing
from tests.conftest import skip
from tests.storing import jpeg, png

TIME = datetime(2026, 1, 31, 23, 59, 59, 7, tzinfo=UTC)
FRONT = Source("porch", "front")
_EXIF_DIRECTORY = 0x8769

names = st.from_regex(NAME_PATTERN, fullmatch=True)
times = st.datetimes(datetime(1900, 1, 1), datetime(2199, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001


def read(image: bytes) -> tuple[dict[int, object], dict[int, object]]:
    """Return both directories as Pillow reads them."""
    found = Image.open(io.BytesIO(image)).getexif()
    return dict(found), dict(found.get_ifd(_EXIF_DIRECTORY))


@given(st.sampled_from([jpeg(), png()]), st.builds(Source, names, names), times)
def test_a_picture_says_when_and_by_whom_it_was_taken(image: bytes, source: Source, time: datetime) -> None:
    written = finishing.add_exif(image, source, time)
    first, second = read(written)
    assert (first[0x010F], first[0x0110]) == source
    said = f"{second[0x9003]}.{second[0x9291]}{second[0x9011]}"
    assert datetime.strptime(said, "%Y:%m:%d %H:%M:%S.%f%z") == time
    assert len(written) <= len(image) + finishing.MOST_BYTES


@pytest.mark.parametrize("image", [jpeg(), png()], ids=["jpeg", "png"])
def test_its_pixels_stay_and_its_structure_is_sound(image: bytes) -> None:
    written = finishing.add_exif(image, FRONT, TIME)
    assert structure.inspect(written) == structure.inspect(image)
    pixels, expected = (np.asarray(Image.open(io.BytesIO(each))) for each in (written, image))
    assert np.array_equal(pixels, expected)


def test_a_time_that_is_not_known_is_not_said() -> None:
    first, second = read(finishing.add_exif(jpeg(), FRONT, None))
    assert (first, second) == ({0x010F: "porch", 0x0110: "front"}, {})


@pytest.mark.parametrize(
    "image",
    [codec.encode_jpeg(np.zeros((32, 32, 3), np.uint8), 90), png()],
    ids=["jpeg", "png"],
)
def test_exiftool_reads_it_without_a_warning(image: bytes) -> None:
    program = shutil.which("exiftool")
    if program is None:
        skip("there is no exiftool")
        return
    answer = subprocess.run(
        [program, "-j", "-warning", "-make", "-model", "-subsecdatetimeoriginal", "-"],
        input=finishing.add_exif(image, FRONT, TIME),
        capture_output=True,
        check=True,
    )
    (said,) = json.loads(answer.stdout)
    del said["SourceFile"]
    assert said == {
        "Make": "porch",
        "Model": "front",
        "SubSecDateTimeOriginal": "2026:01:31 23:59:59.000007+00:00",
    }
