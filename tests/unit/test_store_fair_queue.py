from hypothesis import given
from hypothesis import strategies as st

from services.store.fair_queue import MOST_TRIED, FairQueue, Queued


def item(device: str = "porch", size: int = 10) -> Queued:
    return Queued(device=device, size_bytes=size)


def make_queue(most: int = 1_000, most_bytes: int = 1_000_000) -> FairQueue[Queued]:
    return FairQueue(most, most_bytes)


def take_all(queue: FairQueue[Queued]) -> list[Queued]:
    return list(iter(queue.next_new, None))


def test_devices_are_served_in_turn_however_many_faces_one_has() -> None:
    queue = make_queue()
    for _ in range(100):
        queue.add(item("loud"))
    for _ in range(2):
        queue.add(item("porch"))
        queue.add(item("garden"))
    served = [each.device for each in take_all(queue)]
    assert served[:6] == ["loud", "porch", "garden"] * 2
    assert served[6:] == ["loud"] * 98


def test_of_a_device_that_is_held_back_few_are_at_work_and_others_are_not_held_back() -> None:
    queue = FairQueue[Queued](1_000, 1_000_000, lambda device: 2 if device == "loud" else 100)
    for _ in range(10):
        queue.add(item("loud"))
        queue.add(item("porch"))
    served = take_all(queue)
    assert sorted(each.device for each in served) == ["loud"] * 2 + ["porch"] * 10
    loud = [each for each in served if each.device == "loud"]
    queue.done(loud[0])
    assert [each.device for each in take_all(queue)] == ["loud"]
    queue.failed(loud[1])  # it waits, and another takes its turn
    assert [each.device for each in take_all(queue)] == ["loud"]


def test_faces_of_a_device_are_served_as_they_came() -> None:
    queue, faces = make_queue(), [item() for _ in range(9)]
    for each in faces:
        queue.add(each)
    assert take_all(queue) == faces


def test_a_device_alone_may_have_all_the_room_to_the_byte() -> None:
    queue = make_queue(most_bytes=40)
    faces = [item(size=10) for _ in range(4)]
    assert [queue.add(each) for each in faces] == [[], [], [], []]
    late = item(size=1)
    assert queue.add(late) == [late]
    assert queue.bytes == 40


def test_for_another_devices_face_the_one_that_has_most_loses_its_newest() -> None:
    queue = make_queue(most=4)
    loud = [item("loud") for _ in range(3)]
    for each in (item("garden"), *loud):
        queue.add(each)
    assert queue.add(item("porch")) == [loud[2]]
    assert queue.add(item("porch")) == [loud[1]]
    assert [each.device for each in take_all(queue)] == ["garden", "loud", "porch", "porch"]


def test_most_is_of_bytes_or_of_faces_whichever_is_nearer_to_the_bound() -> None:
    queue = make_queue(most=100, most_bytes=1_000)
    large = [item("large", 300) for _ in range(3)]
    for each in (*large, *(item("many", 1) for _ in range(50))):
        queue.add(each)
    assert queue.add(item("porch", 100)) == [large[2]]


def test_what_is_at_work_is_never_evicted_and_is_half_of_the_queue_at_most() -> None:
    queue = make_queue(most_bytes=80)
    loud = [item("loud") for _ in range(8)]
    for each in loud:
        queue.add(each)
    assert take_all(queue) == loud[:4]
    assert [queue.add(item("porch")) for _ in range(4)] == [[loud[n]] for n in (7, 6, 5, 4)]
    queue.done(loud[0])
    assert [each.device for each in take_all(queue)] == ["porch"]


def test_a_face_that_is_more_than_half_of_the_room_gets_its_turn_alone() -> None:
    queue = make_queue(most_bytes=100)
    for face in (item("porch", 90), item("garden", 5)):
        queue.add(face)
    (large,) = take_all(queue)
    assert take_all(queue) == []
    queue.done(large)
    assert [each.device for each in take_all(queue)] == ["garden"]


def test_what_failed_waits_to_be_tried_again_and_can_lose_its_place() -> None:
    queue = make_queue(most=2)
    first, second = item("loud"), item("loud")
    for each in (first, second):
        queue.add(each)
        assert queue.next_new() is each
        queue.failed(each)
    assert queue.tried == 2
    assert queue.next_retry() is None
    assert queue.add(item("porch")) == [second]
    queue.retry(second)
    queue.retry(first)
    assert queue.next_retry() is first
    queue.done(first)
    assert (queue.tried, len(queue)) == (0, 1)


def test_a_device_of_which_many_fail_holds_up_itself_alone() -> None:
    queue = make_queue()
    for _ in range(MOST_TRIED + 2):
        queue.add(item("stuck"))
    tried = [queue.next_new() for _ in range(MOST_TRIED)]
    for each in tried:
        assert each is not None
        queue.failed(each)
    queue.add(item("porch"))
    assert [each.device for each in take_all(queue)] == ["porch"]
    assert tried[0] is not None
    queue.retry(tried[0])
    assert queue.next_retry() is tried[0]
    queue.done(tried[0])
    assert [each.device for each in take_all(queue)] == ["stuck"] * 2


def test_nothing_is_kept_of_a_device_that_has_nothing_there() -> None:
    queue = make_queue()
    for number in range(10_000):
        face = item(f"device-{number}")
        queue.add(face)
        assert queue.next_new() is face
        queue.done(face)
    assert len(queue._ranking) < 2_000
    assert all(not getattr(queue, name) for name in ("_shares", "_turn", "_retries"))


def assert_first(queue: FairQueue[Queued], held: dict[Queued, None]) -> None:
    """The ranking says who has most, as one finds who looks at each."""
    parts: dict[str, float] = {}
    for device in {each.device for each in held}:
        sizes = [each.size_bytes for each in held if each.device == device]
        parts[device] = max(len(sizes) / 6, sum(sizes) / 100)
    first = queue._ranking.first()
    assert (first is None) == (not parts)
    assert first is None or parts[first] == max(parts.values())


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "next", "again", "done", "fail"]), st.integers(0, 9)), max_size=80
)


@given(STEPS)
def test_whatever_happens_each_face_is_in_one_place_and_within_the_bounds(
    steps: list[tuple[str, int]],
) -> None:
    queue = make_queue(most=6, most_bytes=100)
    held: dict[Queued, None] = {}
    at_work: list[Queued] = []
    failed: list[Queued] = []
    for step, number in steps:
        if step == "add":
            new = item(f"device-{number % 3}", 5 + 7 * number)
            held[new] = None
            for lost in queue.add(new):
                assert lost not in at_work
                del held[lost]
        elif step in ("next", "again"):
            found = queue.next_new() if step == "next" else queue.next_retry()
            at_work += [found] if found is not None else []
        elif step == "done" and at_work:
            gone = at_work.pop(number % len(at_work))
            queue.done(gone)
            del held[gone]
        elif step == "fail" and at_work:
            failed.append(at_work.pop(number % len(at_work)))
            queue.failed(failed[-1])
            if number % 2:
                queue.retry(failed[-1])
        assert len(queue) == len(held) <= 6
        assert_first(queue, held)
        assert queue.bytes == sum(each.size_bytes for each in held) <= 100
        assert set(at_work) <= set(held)
        assert queue.tried == len({*failed} & {*held} - {*at_work})
