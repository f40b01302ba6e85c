from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.storage.keys import FaceKey, parse_key
from services.common.wire.faces import mint_id
from services.common.wire.topics import Source
from tests.storing import PORCH, TIME

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
ID = mint_id(PORCH, TIME, b"pixels")


def test_key_names_day_device_camera_and_face() -> None:
    key = FaceKey(PORCH, ID, "image/png")
    assert str(key) == f"dt=2026-01-31/device=porch/camera=front/{ID}.png"


@given(NAMES, NAMES, st.datetimes(), st.binary(), st.sampled_from(["image/jpeg", "image/png"]))
def test_what_a_key_tells_is_what_it_was_made_of(
    device: str, camera: str, naive: datetime, image: bytes, content_type: str
) -> None:
    source, time = Source(device, camera), naive.replace(tzinfo=UTC)
    key = FaceKey(source, mint_id(source, time, image), content_type)
    parsed = parse_key(str(key))
    assert parsed == key
    assert parsed.time == time


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".faceferry/probe",
        f"dt=2026-01-31/device=porch/camera=front/{ID}.json",
        f"dt=2026-01-31/device=porch/camera=front/{ID}",
        f"dt=2026-01-30/device=porch/camera=front/{ID}.jpg",  # another day's folder
        f"dt=2026-01-31/porch/front/{ID}.jpg",
        f"dt=2026-01-31/device=../camera=front/{ID}.jpg",
        f"dt=2026-01-31/device=porch/camera=front/deep/{ID}.jpg",
        f"dt=2026-01-31/device=porch/camera=front/99999999{ID[8:]}.jpg",
        "dt=2026-01-31/device=porch/camera=front/holiday.jpg",
    ],
)
def test_other_objects_are_not_taken_for_faces(key: str) -> None:
    assert parse_key(key) is None


@given(st.text())
def test_any_text_is_a_key_or_not(text: str) -> None:
    assert parse_key(text) is None
    assert parse_key(f"dt=2026-01-31/device=porch/camera=front/{text}.jpg") is None
