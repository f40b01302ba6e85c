"""What `faceferry status` makes of what services say."""

import json
from typing import Any

import pytest

from services.commands.status import duration, screen
from services.commands.status_facts import ServiceAnswer, Status, put_together
from services.common.runtime.metrics import Samples
from services.forward.metrics import LAST_FACE_AT, MOST_CAMERAS, LastFaceGauge

NOW_S = 1_800_000_000.0
INFO = 'faceferry_device_info{device="porch"} 1\n'
CAPTURE = """
# TYPE faceferry_capture_frames_total counter
faceferry_capture_frames_total{camera="front"} %d
faceferry_capture_published_total{camera="front"} 10
faceferry_capture_state{camera="front",faceferry_capture_state="online"} 0
faceferry_capture_state{camera="front",faceferry_capture_state="stalled"} 1
"""
FORWARD = """
# TYPE faceferry_spool_faces gauge
faceferry_spool_faces 3
faceferry_spool_oldest_seconds 3700
faceferry_set_aside_faces{reason="too_large"} 2
faceferry_set_aside_faces{reason="not_authorized"} 0
faceferry_quarantine_faces 1
faceferry_mqtt_link_up{link="local",broker="broker:1883"} 1
faceferry_mqtt_link_up{link="cloud",broker="cloud:8883"} 0
process_start_time_seconds 1799913600
"""
STORE = """
# TYPE faceferry_store_available gauge
faceferry_store_available 1
faceferry_store_puts_total{outcome="created"} 5
faceferry_store_puts_total{outcome="existing"} 2
"""


def answer(text: str, *, at_s: float = NOW_S, address: str = "a:8080", **checks: str) -> ServiceAnswer:
    return ServiceAnswer(address, checks, Samples(text), at_s)


def status(*answers: ServiceAnswer, **given: Any) -> Status:
    return put_together(answers, given.get("unreachable", {}), given.get("before", {}))


@pytest.mark.parametrize(
    ("text", "service"),
    [(CAPTURE % 1, "capture"), (FORWARD, "forward"), (STORE, "store"), ("other 1\n", "?")],
)
def test_a_service_is_known_by_what_it_says(text: str, service: str) -> None:
    (process,) = status(answer(text)).processes
    assert process.service == service


def test_what_waits_is_told_with_where_and_why() -> None:
    found = status(answer(INFO + FORWARD, local_broker="ok", cloud_broker="no connection to cloud:8883"))
    assert [(each.where, each.faces, each.oldest_s, each.why) for each in found.waiting] == [
        ("forward, on disk", 3, 3700, "cloud_broker: no connection to cloud:8883"),
        ("forward, set aside", 2, None, "too_large"),
        ("forward, refused", 1, None, "see faceferry spool"),
    ]
    assert [(each.link, each.is_up) for each in found.links] == [("local", True), ("cloud", False)]
    (process,) = found.processes
    assert (process.device, process.is_ready, process.up_s) == ("porch", False, 86_400)
    assert not found.is_well


def test_a_store_that_is_silent_is_why_faces_wait() -> None:
    found = status(answer(f"{FORWARD}faceferry_forward_store_silent 1\n", cloud_broker="ok"))
    assert found.waiting[0].why == "no store answers"


def test_rates_want_two_looks_and_a_process_that_went_on() -> None:
    before = answer(CAPTURE % 100, at_s=NOW_S - 2)
    (camera,) = status(answer(CAPTURE % 130), before={"a:8080": before}).cameras
    assert (camera.camera, camera.state, camera.frames_s, camera.looked_at_s) == ("front", "stalled", 15, 0)
    for earlier in ({}, {"b:8080": before}, {"a:8080": answer(CAPTURE % 200, at_s=NOW_S - 2)}):
        (camera,) = status(answer(CAPTURE % 130), before=earlier).cameras
        assert camera.frames_s is None


@pytest.mark.parametrize(
    ("note", "is_well"),
    [("ok", True), ("offline: ended", True), ("offline: unavailable", False), ("stalled", False)],
)
def test_a_camera_that_is_away_is_not_well_unless_it_is_a_recording_that_is_over(
    note: str, *, is_well: bool
) -> None:
    text = CAPTURE % 1
    if note == "ok":
        text = text.replace('"online"} 0', '"online"} 1').replace('"stalled"} 1', '"stalled"} 0')
    said = ServiceAnswer("a:8080", {"local/front": "ok"}, Samples(text), NOW_S, {"camera/front": note})
    found = status(said)
    assert found.is_well == is_well
    why = note.partition(": ")[2]
    assert ("front" in found.cameras[0].camera, found.cameras[0].why) == (True, why)
    assert not why or any(f"({why})" in line for line in screen(found, is_coloured=False))


def test_faces_of_all_replicas_are_added_up() -> None:
    found = status(answer(STORE), answer(STORE, address="b:8080"))
    assert found.faces == {"stored": 14}


def test_who_does_not_answer_is_named() -> None:
    found = status(answer(STORE, store="ok"), unreachable={"b:8080": "connection refused"})
    assert not found.is_well
    assert any("b:8080" in line and "connection refused" in line for line in screen(found, is_coloured=False))


def test_the_screen_shows_everything_and_is_coloured_where_that_is_wanted() -> None:
    found = status(answer(INFO + FORWARD, cloud_broker="down"), answer(INFO + CAPTURE % 1, address="b:8080"))
    plain = "\n".join(screen(found, is_coloured=False))
    for words in ("Faceferry: porch", "porch/front", "stalled", "oldest 1 h 1 min", "too_large", "for 1 d"):
        assert words in plain
    assert "\x1b" not in plain
    coloured = "\n".join(screen(found, is_coloured=True))
    assert "\x1b[31mdown" in coloured
    assert "\x1b[32mup" in coloured


def test_as_json_it_is_plain_values() -> None:
    told = json.loads(json.dumps(status(answer(FORWARD)).as_json()))
    assert told["waiting"][0]["faces"] == 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_last_faces_are_told_newest_first_and_of_replicas_the_newest() -> None:
    name = "faceferry_forward_last_face_timestamp_seconds"
    forward = f'{INFO}{FORWARD}{name}{{camera="front"}} {NOW_S - 125}\n{name}{{camera="yard"}} {NOW_S - 4}\n'
    stored = [f"{STORE}faceferry_store_last_face_timestamp_seconds {NOW_S - ago}\n" for ago in (90, 60)]
    never = f"{STORE}faceferry_store_last_face_timestamp_seconds 0\n"
    found = status(answer(forward), *(answer(text) for text in (*stored, never)))
    assert [(each.device, each.camera, each.ago_s) for each in found.lasts] == [
        ("porch", "yard", 4),
        (None, None, 60),
        ("porch", "front", 125),
    ]
    lines = "\n".join(screen(found, is_coloured=False))
    assert "last faces\n  porch/yard               4 s ago\n  stored " in lines
    assert "2 min 5 s ago" in lines
    assert "last faces" not in "\n".join(screen(status(answer(STORE)), is_coloured=False))
    assert json.loads(json.dumps(found.as_json()))["lasts"][0]["camera"] == "yard"


def test_the_cameras_whose_last_face_is_told_are_bounded() -> None:
    lasts = LastFaceGauge()
    for number in range(MOST_CAMERAS + 9):
        lasts.note(f"lasts-{number}", 1.0 + number)
    lasts.note("lasts-0", 999.0)
    told = {sample.labels["camera"]: sample.value for sample in next(iter(LAST_FACE_AT.collect())).samples}
    ours = {camera: value for camera, value in told.items() if camera.startswith("lasts-")}
    assert len(ours) == MOST_CAMERAS
    assert ours["lasts-0"] == 999.0
