from services.forward.congestion import EASE_EVERY_S, FIRST_SPACING_S, MOST_SPACING_S, MessageSpacing


def test_nobody_waits_before_a_complaint() -> None:
    pace = MessageSpacing()
    pace.sent(1.0)
    assert pace.wait_s(1.0) == 0.0


def test_each_complaint_doubles_the_gap_up_to_a_bound() -> None:
    pace = MessageSpacing()
    gaps = []
    for _ in range(10):
        pace.slower(1.0)
        pace.sent(1.0)
        gaps.append(round(pace.wait_s(1.0), 3))
    assert gaps[:3] == [FIRST_SPACING_S, 2 * FIRST_SPACING_S, 4 * FIRST_SPACING_S]
    assert gaps[-1] == MOST_SPACING_S == 1.0


def test_it_eases_while_nobody_complains_and_ends() -> None:
    pace = MessageSpacing()
    pace.slower(0.0)
    pace.slower(0.0)
    now_s = EASE_EVERY_S + 1
    pace.wait_s(now_s)
    pace.sent(now_s)
    assert round(pace.wait_s(now_s), 3) == FIRST_SPACING_S
    pace.sent(3 * EASE_EVERY_S)
    assert pace.wait_s(3 * EASE_EVERY_S) == 0.0
