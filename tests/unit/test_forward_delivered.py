from services.forward.delivered import KEEP_S, Delivered


def test_a_face_that_comes_back_is_known_for_as_long_as_it_does() -> None:
    delivered = Delivered(most=10, keep_s=100)
    delivered.add("a", 0)
    assert all(delivered.has("a", now_s) for now_s in range(0, 1_000, 90))


def test_a_face_may_be_sent_anew_after_a_while() -> None:
    delivered = Delivered(most=10, keep_s=100)
    delivered.add("a", 0)
    assert not delivered.has("a", 101)


def test_those_seen_least_lately_are_forgotten() -> None:
    delivered = Delivered(most=3, keep_s=100)
    for face_id in "abc":
        delivered.add(face_id, 0)
    assert delivered.has("a", 1)
    delivered.add("d", 2)
    assert [delivered.has(face_id, 3) for face_id in "abcd"] == [True, False, True, True]


def test_what_is_too_long_ago_takes_no_memory() -> None:
    delivered = Delivered()
    for second in range(5_000):
        delivered.add(f"face-{second}", float(second))
    assert len(delivered) == KEEP_S + 1
