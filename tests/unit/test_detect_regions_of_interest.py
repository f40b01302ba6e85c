import numpy as np

from services.common.wire.seen import SeenFace
from services.detect.boxes import Detections
from services.detect.regions_of_interest import AFTER_FACE_S, MOST_LOST, LostFace, SeenFaces, lost_after

ANN, BOB = (400.0, 300.0, 100.0, 120.0), (1400.0, 300.0, 100.0, 120.0)


def detections(*boxes: tuple[float, ...], scores: tuple[float, ...] = ()) -> Detections:
    count = len(boxes)
    each = np.array(scores or [0.9] * count, np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), each, np.zeros((count, 5, 2), np.float32))


def faces(*boxes: tuple[float, float, float, float], scores: tuple[float, ...] = ()) -> SeenFaces:
    sights = tuple(SeenFace(box, 0.9, (), 100.0, b"") for box in boxes)
    return SeenFaces(detections(*boxes, scores=scores), sights)


def missed(
    before: Detections, now: Detections, earlier: tuple[LostFace, ...] = (), at_s: float = 10.0
) -> list[LostFace]:
    return list(lost_after(before, now, earlier, at_s, at_s - 0.1))


def test_kept_and_new_faces_are_joined_best_first_with_their_sights() -> None:
    together = faces(ANN, scores=(0.8,)).with_new(faces(BOB, scores=(0.9,)), 0)
    assert together.found.boxes[:, 0].tolist() == [BOB[0], ANN[0]]
    assert [sight.box for sight in together.sights] == [BOB, ANN]


def test_a_kept_face_that_is_found_again_beside_it_is_one() -> None:
    again = (ANN[0] + 10, *ANN[1:])
    together = faces(ANN, scores=(0.8,)).with_new(faces(again, BOB, scores=(0.95, 0.9)), 0)
    assert {sight.box for sight in together.sights} == {ANN, BOB}


def test_there_are_at_most_so_many_faces_and_the_best_of_them() -> None:
    together = faces(ANN, scores=(0.8,)).with_new(faces(BOB, scores=(0.9,)), 1)
    assert [sight.box for sight in together.sights] == [BOB]


def test_faces_of_a_detector_without_scores_or_sights_are_joined_too() -> None:
    one = SeenFaces(Detections(np.array([ANN], np.float32)))
    assert len(one.with_new(SeenFaces(Detections(np.array([BOB], np.float32))), 0)) == 2
    assert len(SeenFaces().with_new(SeenFaces(), 0)) == 0


def test_who_has_moved_is_not_missed_and_who_is_gone_is() -> None:
    before = detections(ANN, BOB)
    assert missed(before, detections((700.0, 320.0, 100.0, 120.0), BOB)) == []
    assert [each.box for each in missed(before, detections(BOB))] == [ANN]
    assert [each.box for each in missed(before, detections())] == [ANN, BOB]


def test_a_face_found_where_one_was_lost_ends_the_search_for_it() -> None:
    earlier = (LostFace(ANN, 9.0),)
    assert missed(detections(), detections(), earlier) == [*earlier]
    assert missed(detections(), detections((420.0, 300.0, 90.0, 100.0)), earlier) == []


def test_lost_faces_are_few_and_soon_forgotten() -> None:
    assert missed(detections(), detections(), (LostFace(ANN, 10.0 - AFTER_FACE_S),)) == []
    crowd = detections(*((10.0 * number, 10.0, 5.0, 5.0) for number in range(2 * MOST_LOST)))
    assert len(missed(crowd, detections())) == MOST_LOST
