from hypothesis import given
from hypothesis import strategies as st

from services.store.waiting import MOST_TRIED, Place, Waiting


def place(device: str = "porch", size: int = 10) -> Place:
    return Place(device=device, size_bytes=size)


def room(most: int = 1_000, most_bytes: int = 1_000_000) -> Waiting[Place]:
    return Waiting(most, most_bytes)


def take_all(waiting: Waiting[Place]) -> list[Place]:
    return list(iter(waiting.next_new, None))


def test_devices_are_served_in_turn_however_many_faces_one_has() -> None:
    waiting = room()
    for _ in range(100):
        waiting.add(place("loud"))
    for _ in range(2):
        waiting.add(place("porch"))
        waiting.add(place("garden"))
    served = [each.device for each in take_all(waiting)]
    assert served[:6] == ["loud", "porch", "garden"] * 2
    assert served[6:] == ["loud"] * 98


def test_of_a_device_that_is_held_back_few_are_at_work_and_others_are_not_held_back() -> None:
    waiting = Waiting[Place](1_000, 1_000_000, lambda device: 2 if device == "loud" else 100)
    for _ in range(10):
        waiting.add(place("loud"))
        waiting.add(place("porch"))
    served = take_all(waiting)
    assert sorted(each.device for each in served) == ["loud"] * 2 + ["porch"] * 10
    loud = [each for each in served if each.device == "loud"]
    waiting.done(loud[0])
    assert [each.device for each in take_all(waiting)] == ["loud"]
    waiting.failed(loud[1])  # it waits, and another takes its turn
    assert [each.device for each in take_all(waiting)] == ["loud"]


def test_faces_of_a_device_are_served_as_they_came() -> None:
    waiting, faces = room(), [place() for _ in range(9)]
    for each in faces:
        waiting.add(each)
    assert take_all(waiting) == faces


def test_a_device_alone_may_have_all_the_room_to_the_byte() -> None:
    waiting = room(most_bytes=40)
    faces = [place(size=10) for _ in range(4)]
    assert [waiting.add(each) for each in faces] == [[], [], [], []]
    late = place(size=1)
    assert waiting.add(late) == [late]
    assert waiting.bytes == 40


def test_for_another_devices_face_the_one_that_has_most_loses_its_newest() -> None:
    waiting = room(most=4)
    loud = [place("loud") for _ in range(3)]
    for each in (place("garden"), *loud):
        waiting.add(each)
    assert waiting.add(place("porch")) == [loud[2]]
    assert waiting.add(place("porch")) == [loud[1]]
    assert [each.device for each in take_all(waiting)] == ["garden", "loud", "porch", "porch"]


def test_most_is_of_bytes_or_of_faces_whichever_is_nearer_to_the_bound() -> None:
    waiting = room(most=100, most_bytes=1_000)
    large = [place("large", 300) for _ in range(3)]
    for each in (*large, *(place("many", 1) for _ in range(50))):
        waiting.add(each)
    assert waiting.add(place("porch", 100)) == [large[2]]


def test_what_is_at_work_is_taken_from_nobody_and_is_half_of_the_room_at_most() -> None:
    waiting = room(most_bytes=80)
    loud = [place("loud") for _ in range(8)]
    for each in loud:
        waiting.add(each)
    assert take_all(waiting) == loud[:4]
    assert [waiting.add(place("porch")) for _ in range(4)] == [[loud[n]] for n in (7, 6, 5, 4)]
    waiting.done(loud[0])
    assert [each.device for each in take_all(waiting)] == ["porch"]


def test_a_face_that_is_more_than_half_of_the_room_gets_its_turn_alone() -> None:
    waiting = room(most_bytes=100)
    for face in (place("porch", 90), place("garden", 5)):
        waiting.add(face)
    (large,) = take_all(waiting)
    assert take_all(waiting) == []
    waiting.done(large)
    assert [each.device for each in take_all(waiting)] == ["garden"]


def test_what_failed_waits_to_be_tried_again_and_can_lose_its_place() -> None:
    waiting = room(most=2)
    first, second = place("loud"), place("loud")
    for each in (first, second):
        waiting.add(each)
        assert waiting.next_new() is each
        waiting.failed(each)
    assert waiting.tried == 2
    assert waiting.next_again() is None
    assert waiting.add(place("porch")) == [second]
    waiting.again(second)
    waiting.again(first)
    assert waiting.next_again() is first
    waiting.done(first)
    assert (waiting.tried, len(waiting)) == (0, 1)


def test_a_device_of_which_many_fail_holds_up_itself_alone() -> None:
    waiting = room()
    for _ in range(MOST_TRIED + 2):
        waiting.add(place("stuck"))
    tried = [waiting.next_new() for _ in range(MOST_TRIED)]
    for each in tried:
        assert each is not None
        waiting.failed(each)
    waiting.add(place("porch"))
    assert [each.device for each in take_all(waiting)] == ["porch"]
    assert tried[0] is not None
    waiting.again(tried[0])
    assert waiting.next_again() is tried[0]
    waiting.done(tried[0])
    assert [each.device for each in take_all(waiting)] == ["stuck"] * 2


def test_nothing_is_kept_of_a_device_that_has_nothing_there() -> None:
    waiting = room()
    for number in range(10_000):
        face = place(f"device-{number}")
        waiting.add(face)
        assert waiting.next_new() is face
        waiting.done(face)
    assert len(waiting._ranking) < 2_000
    assert all(not getattr(waiting, name) for name in ("_shares", "_turn", "_again"))


def assert_first(waiting: Waiting[Place], held: dict[Place, None]) -> None:
    """The ranking says who has most, as one finds who looks at each."""
    parts: dict[str, float] = {}
    for device in {each.device for each in held}:
        sizes = [each.size_bytes for each in held if each.device == device]
        parts[device] = max(len(sizes) / 6, sum(sizes) / 100)
    first = waiting._ranking.first()
    assert (first is None) == (not parts)
    assert first is None or parts[first] == max(parts.values())


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "next", "again", "done", "fail"]), st.integers(0, 9)), max_size=80
)


@given(STEPS)
def test_whatever_happens_each_face_is_in_one_place_and_within_the_bounds(
    steps: list[tuple[str, int]],
) -> None:
    waiting = room(most=6, most_bytes=100)
    held: dict[Place, None] = {}
    at_work: list[Place] = []
    failed: list[Place] = []
    for step, number in steps:
        if step == "add":
            new = place(f"device-{number % 3}", 5 + 7 * number)
            held[new] = None
            for lost in waiting.add(new):
                assert lost not in at_work
                del held[lost]
        elif step in ("next", "again"):
            found = waiting.next_new() if step == "next" else waiting.next_again()
            at_work += [found] if found is not None else []
        elif step == "done" and at_work:
            gone = at_work.pop(number % len(at_work))
            waiting.done(gone)
            del held[gone]
        elif step == "fail" and at_work:
            failed.append(at_work.pop(number % len(at_work)))
            waiting.failed(failed[-1])
            if number % 2:
                waiting.again(failed[-1])
        assert len(waiting) == len(held) <= 6
        assert_first(waiting, held)
        assert waiting.bytes == sum(each.size_bytes for each in held) <= 100
        assert set(at_work) <= set(held)
        assert waiting.tried == len({*failed} & {*held} - {*at_work})
