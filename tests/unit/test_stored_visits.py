"""Which stored faces are of one visit, by what they say."""

import math
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.commands.faces import by_visit
from services.common.storage.keys import FaceKey
from services.common.storage.visits import Group, Part, Picture, grouped, is_visit, part_in
from tests.seeing import CAMERAS, NOON, visit_id

said = st.text() | st.from_regex(r"\A[0-9.e+-]{1,8}\Z") | st.sampled_from(["nan", "inf", "1.0", "0.5", "7"])
visits = st.text() | st.just(visit_id(NOON)) | st.from_regex(r"\A\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{16}\Z")


@given(visits, said, said)
def test_whatever_a_face_says_is_a_visit_with_numbers_or_none(visit: str, shot: str, quality: str) -> None:
    part = part_in({"visit": visit, "shot": shot, "quality": quality})
    assert (part is not None) == is_visit(visit)
    if part is not None:
        assert part.began.year >= 1
        assert part.shot is None or 1 <= part.shot < 1_000_000
        assert part.quality is None or (math.isfinite(part.quality) and 0 <= part.quality <= 1)


def picture(second: int, camera: int, visit: int | None, quality: float | None = 0.5) -> Picture:
    """One of a camera's, of a visit that began that many seconds after noon."""
    taken_at = NOON + timedelta(seconds=second)
    key = FaceKey(CAMERAS[camera], f"{visit_id(taken_at, camera)}{0:016x}", "image/jpeg")
    began = NOON + timedelta(seconds=min(visit or 0, second))
    return Picture(key, None if visit is None else Part(visit_id(began, visit), 1, quality))


pictures = st.lists(
    st.builds(
        picture,
        st.integers(0, 300),
        st.integers(0, 2),
        st.none() | st.integers(0, 5),
        st.none() | st.floats(0, 1),
    ),
    max_size=40,
    unique_by=lambda each: each.key.id,
).map(lambda found: sorted(found, key=lambda each: each.key.id, reverse=True))


@given(pictures)
def test_each_picture_is_in_one_group_of_its_camera_and_visit(found: list[Picture]) -> None:
    groups = grouped(found)
    assert sorted(each.key.id for group in groups for each in group.pictures) == sorted(
        each.key.id for each in found
    )
    for group in groups:
        assert len({each.name for each in group.pictures}) == 1
        assert group.began <= group.pictures[-1].key.time <= group.last
        assert group.best.rank == max(each.rank for each in group.pictures)
    assert [group.last for group in groups] == sorted((group.last for group in groups), reverse=True)


@given(pictures)
async def test_visits_that_are_listed_are_those_of_one_look_at_all(found: list[Picture]) -> None:
    assert [group async for group in by_visit(given_one_by_one(found))] == grouped(found)


async def test_a_visit_without_an_end_holds_up_a_bounded_number_of_faces() -> None:
    read = 0

    async def poster() -> AsyncIterator[Picture]:
        nonlocal read
        for second in range(1_000, 0, -1):
            read += 1
            yield picture(second, 0, 0 if second % 10 else None)

    sizes: list[int] = []
    held: list[int] = []
    async for group in by_visit(poster(), most_ahead=50):
        held.append(read - sum(sizes))
        sizes.append(len(group.pictures))
    assert sum(sizes) == 1_000
    assert max(held) == 51


async def given_one_by_one(found: Iterable[Picture]) -> AsyncIterator[Picture]:
    for each in found:
        yield each


def test_a_visit_that_names_a_later_beginning_began_with_its_first_picture() -> None:
    key = picture(5, 0, None).key
    assert Group.of([Picture(key, Part(visit_id(NOON + timedelta(days=9))))]).began == key.time
    assert Group.of([Picture(key, Part(visit_id(NOON)))]).began == NOON
