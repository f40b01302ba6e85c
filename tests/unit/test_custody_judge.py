"""The judges of the custody runs are judged: shown what is wrong they say so, and only then."""

import dataclasses
from pathlib import Path

import pytest

from tests.custody.comparison import Comparison, compare
from tests.custody.control import SPOILINGS, UNSPOILT, missed
from tests.custody.faces import key_of, known_face
from tests.custody.readiness import Change, Span, Verdict, Watch, judge

FACES = [known_face(1, number) for number in range(12)]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for face in FACES:
        path = tmp_path / key_of(face)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(face.image)
    return tmp_path


def test_a_bucket_with_every_face_once_is_perfect(bucket: Path) -> None:
    found = compare(bucket, FACES)
    assert found.is_perfect
    assert found.stored_at.keys() == {face.id for face in FACES}


def test_a_lost_face_is_named(bucket: Path) -> None:
    (bucket / key_of(FACES[3])).unlink()
    found = compare(bucket, FACES)
    assert found.lost == (key_of(FACES[3]),)
    assert not found.is_perfect


def test_a_changed_face_is_named(bucket: Path) -> None:
    path = bucket / key_of(FACES[3])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = compare(bucket, FACES)
    assert found.differing == (key_of(FACES[3]),)
    assert not found.is_perfect


def test_a_face_under_two_keys_is_named_with_both(bucket: Path) -> None:
    other = f"{key_of(FACES[3])[:-4]}-again.jpg"
    (bucket / other).write_bytes(FACES[3].image)
    found = compare(bucket, FACES)
    assert set(found.duplicates) == {key_of(FACES[3]), other}
    assert not found.is_perfect


def test_two_faces_that_were_exchanged_are_both_named(bucket: Path) -> None:
    (bucket / key_of(FACES[3])).write_bytes(FACES[4].image)
    (bucket / key_of(FACES[4])).write_bytes(FACES[3].image)
    assert set(compare(bucket, FACES).differing) == {key_of(FACES[3]), key_of(FACES[4])}


def test_an_object_that_nobody_published_is_named(bucket: Path) -> None:
    foreign = known_face(2, 0)
    (bucket / "foreign.jpg").write_bytes(foreign.image)
    found = compare(bucket, FACES)
    assert found.unexpected == ("foreign.jpg",)
    assert not found.is_perfect


def test_a_face_that_a_fault_destroyed_may_be_missing_and_may_not_be_wrong(bucket: Path) -> None:
    path = bucket / key_of(FACES[3])
    destroyed = {FACES[3].id}
    assert compare(bucket, FACES, destroyed).is_perfect
    path.write_bytes(b"other")
    assert compare(bucket, FACES, destroyed).differing == (key_of(FACES[3]),)
    path.unlink()
    found = compare(bucket, FACES, destroyed)
    assert found.is_perfect
    assert found.excused == (key_of(FACES[3]),)
    assert not compare(bucket, FACES, {FACES[4].id}).is_perfect


def test_the_control_finds_nothing_to_say_of_a_judge_that_sees(bucket: Path) -> None:
    before = {path: path.read_bytes() for path in bucket.rglob("*.jpg")}
    assert missed(bucket, lambda: compare(bucket, FACES), key_of(FACES[0])) == ()
    assert {path: path.read_bytes() for path in bucket.rglob("*.jpg")} == before


@pytest.mark.parametrize(
    ("blind", "unseen"),
    [
        ("lost", "a lost face"),
        ("differing", "a changed face"),
        ("duplicates", "a face stored twice"),
        ("unexpected", "a face that nobody published"),
    ],
)
def test_the_control_tells_what_a_blind_judge_does_not_see(bucket: Path, blind: str, unseen: str) -> None:
    def blinded() -> Comparison:
        found = compare(bucket, FACES)
        return dataclasses.replace(found, **{blind: ()})  # type: ignore[arg-type]

    assert unseen in missed(bucket, blinded, key_of(FACES[0]))
    assert unseen in SPOILINGS


def test_the_control_does_not_trust_a_judge_that_always_complains(bucket: Path) -> None:
    def complains() -> Comparison:
        return compare(bucket, [*FACES, known_face(3, 0)])

    assert set(missed(bucket, complains, key_of(FACES[0]))) == {*SPOILINGS, UNSPOILT}


def watch(*looks: tuple[float, bool]) -> dict[str, list[Change]]:
    seen = Watch()
    for at_s, is_ready in looks:
        seen.note("forward", at_s, is_ready=is_ready, why="" if is_ready else "down")
    return seen.changes


def verdict(*looks: tuple[float, bool], stops: str = "forward") -> Verdict:
    """Of a fault from 10 s to 20 s, watched until 27 s."""
    (found,) = judge("cut", {stops}, watch((0, True), *looks), Span(10, 20, 20, 27))
    return found


@pytest.mark.parametrize(
    ("looks", "is_true"),
    [
        ([(11, False), (21, True)], True),
        ([(14.9, False), (24.9, True)], True),
        ([(15.1, False), (21, True)], False),  # noticed too late
        ([(11, False), (25.1, True)], False),  # over, and noticed too late
        ([(11, False)], False),  # never back
        ([], False),  # never noticed
        ([(20.5, False), (21, True)], False),  # noticed when it was over
        ([(11, False), (13, True)], False),  # ready while it is not
        ([(11, False), (13, True), (13.2, False), (21, True)], False),  # flickers
        ([(11, False), (21, True), (22, False), (22.5, True)], False),  # flickers afterwards
    ],
)
def test_readiness_is_true_when_it_follows_the_fault_in_time_and_once(
    looks: list[tuple[float, bool]], *, is_true: bool
) -> None:
    assert verdict(*looks).is_true == is_true


@pytest.mark.parametrize(
    ("looks", "is_true"),
    [
        ([], True),
        ([(11, False), (21, True)], True),
        ([(11, False), (12, True)], True),
        ([(11, False)], False),
        ([(11, False), (12, True), (13, False), (14, True)], False),
    ],
)
def test_a_service_that_can_work_on_may_stay_ready_but_not_flicker(
    looks: list[tuple[float, bool]], *, is_true: bool
) -> None:
    assert verdict(*looks, stops="store").is_true == is_true


def test_the_share_of_time_without_readiness_is_told() -> None:
    seen = Watch()
    seen.note("store", 0.0, is_ready=True, why="")
    assert seen.unready()["store"] == 0.0
