from hypothesis import given
from hypothesis import strategies as st

from services.common import faces
from services.store.admission import Admitted, to_object
from services.store.waiting import Arrival, Waiting
from tests.storing import PORCH, TIME


def admitted(number: int, size: int = 10) -> Admitted:
    image = number.to_bytes(4).ljust(size, b"x")
    face = faces.mint(PORCH, TIME, image, "image/jpeg", {})
    return Admitted(face, to_object(face), is_bare=False)


def test_a_face_that_waits_already_is_a_copy() -> None:
    waiting = Waiting(100)
    assert waiting.add(admitted(1)) is Arrival.NEW
    assert waiting.add(admitted(1)) is Arrival.COPY
    assert (len(waiting), waiting.bytes) == (1, 10)
    waiting.remove(admitted(1).face.id)
    assert waiting.add(admitted(1)) is Arrival.NEW


def test_room_is_what_was_asked_for_to_the_byte() -> None:
    waiting = Waiting(20)
    assert waiting.add(admitted(1)) is Arrival.NEW
    assert waiting.add(admitted(2)) is Arrival.NEW
    assert waiting.add(admitted(3)) is Arrival.NO_ROOM
    assert waiting.add(admitted(2)) is Arrival.COPY
    waiting.remove(admitted(1).face.id)
    assert waiting.add(admitted(3)) is Arrival.NEW


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(4, 60), st.booleans()), max_size=60))
def test_bytes_are_those_that_wait_and_never_above_the_bound(steps: list[tuple[int, int, bool]]) -> None:
    waiting, held = Waiting(100), dict[str, int]()
    for number, size, is_arrival in steps:
        face = admitted(number, size).face
        if not is_arrival and face.id in held:
            waiting.remove(face.id)
            del held[face.id]
        elif waiting.add(admitted(number, size)) is Arrival.NEW:
            held[face.id] = size
        assert waiting.bytes == sum(held.values()) <= 100
        assert len(waiting) == len(held)
