import io
import json
import os
import sys
from pathlib import Path

import pytest

from services.capture.cameras import parse_camera
from services.common.errors import SetupError
from services.common.storage.locations import FolderLocation, parse_location, state_folder, store_url
from services.up import brokers, run
from services.up.checks import check_settings
from services.up.console import Console, ended_in, fallback_in, problem_of, render
from services.up.once import JournalFollower, Outcome
from services.up.plan import RunRequest, camera_settings, device_name, named_sources, not_used
from services.up.run import where_to


def write(path: Path, *entries: object) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def seen(journal: JournalFollower) -> tuple[int, int | None, bool]:
    """Return frames answered, frames in all, and whether every source has finished."""
    journal.follow()
    return journal.frames, journal.all_frames, journal.is_finished


def test_journal_counts_frames_and_distinct_faces(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFollower(path, ["front", "yard"])
    assert seen(journal) == (0, None, False)
    write(path, {"source": "front", "frames": 2}, {"source": "front", "frame": 0, "faces": ["a", "b"]})
    assert seen(journal) == (1, None, False)
    write(path, {"source": "yard", "frames": 1}, {"source": "yard", "frame": 0, "faces": ["c"]})
    write(path, {"source": "front", "frame": 1, "faces": ["b"]})
    assert seen(journal) == (3, 3, False)
    assert journal.faces == {"a": "front", "b": "front", "c": "yard"}
    write(path, {"source": "front", "finished": True, "frames": 2})
    assert seen(journal) == (3, 3, False)
    write(path, {"source": "yard", "finished": True, "frames": 1})
    assert seen(journal) == (3, 3, True)


def test_journal_starts_over_with_capture(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFollower(path, ["front"])
    write(path, {"source": "front", "frames": 9}, {"source": "front", "frame": 0, "faces": ["a"]})
    journal.follow()
    path.write_text("")
    write(path, {"source": "front", "frames": 9})
    journal.follow()
    assert (journal.frames, journal.faces) == (0, {})


def test_journal_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFollower(path, ["front"])
    path.write_text('{"source": "front", "fra')
    journal.follow()
    with path.open("a") as file:
        file.write('me": 0, "faces": []}\n')
    journal.follow()
    assert journal.frames == 1


def test_sources_without_a_name_are_numbered(tmp_path: Path) -> None:
    clip = str(tmp_path / "a b?.mp4")
    settings = camera_settings([clip, f"yard={clip}", "rtsp://host/x"], is_once=False)
    encoded = f"file://{tmp_path}/a%20b%3F.mp4"
    assert settings == (f"camera={encoded}", f"yard={encoded}", "camera-3=rtsp://host/x")


@pytest.mark.parametrize(
    "name", [b"caf\xe9.mp4", b"yard=clip.mp4", b"http:x.mp4", b"-x.mp4", b"a\nb.mp4", b"50%?#.mp4"]
)
def test_a_file_of_any_name_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(name)).touch()
    (setting,) = camera_settings([os.fsdecode(name)], is_once=True)
    camera = parse_camera(setting)
    assert (camera.name, os.fsencode(camera.place)) == ("camera", os.fsencode(tmp_path) + b"/" + name)
    assert camera.options.paced


def test_a_store_of_any_name_is_a_url_that_means_it() -> None:
    url = store_url("/café 50%")
    assert url == "file:///caf%C3%A9%2050%25"
    assert parse_location(url) == FolderLocation(Path("/café 50%"))
    with pytest.raises(SetupError, match="not UTF-8"):
        store_url(os.fsdecode(b"/caf\xe9"))


def test_once_plays_files_paced_and_nothing_else() -> None:
    assert camera_settings(["/x.mp4"], is_once=True) == ("camera=file:///x.mp4?paced=1",)
    assert camera_settings(["file:///x.mp4?fps=5"], is_once=True) == ("camera=file:///x.mp4?fps=5&paced=1",)
    assert camera_settings(["file:///x.mp4?paced=1"], is_once=True) == ("camera=file:///x.mp4?paced=1",)
    with pytest.raises(SetupError, match=r"^source rtsp://host/\*\*\*: --once plays files"):
        camera_settings(["rtsp://host/x"], is_once=True)
    with pytest.raises(SetupError, match="take loop=1 away"):
        camera_settings(["file:///x.mp4?loop=1"], is_once=True)


def test_runs_into_one_store_share_their_state() -> None:
    assert store_url("/a b") == "file:///a%20b"
    assert store_url("s3://bucket/x") == "s3://bucket/x"
    assert parse_location(store_url("/a#b?c%")) == FolderLocation(Path("/a#b?c%"))


@pytest.mark.parametrize("store", ["/x/caf\udce9", "/x/a\nb", "file:///x/a#b", "s3://b/../x", "gs://b\udce9"])
def test_a_store_that_cannot_be_is_refused_in_one_line(store: str) -> None:
    with pytest.raises(SetupError) as caught:
        store_url(store)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isascii()
    home = {"XDG_STATE_HOME": "/state"}
    assert state_folder("file:///x", home) == state_folder("file:///x", home)
    assert state_folder("file:///x", home) != state_folder("file:///y", home)


def test_device_is_named_by_the_setting_first() -> None:
    assert device_name({"FACEFERRY_DEVICE": "porch"}) == "porch"
    assert device_name({})


def test_a_log_event_reads_as_a_line_for_people() -> None:
    event = (
        '{"service": "store", "event": "store.face_stored", "level": "info", "timestamp": "x", "id": "abc"}'
    )
    assert render("store", event, is_coloured=False) == "store   | store.face_stored id=abc"
    assert "\x1b[32m" in render("store", event, is_coloured=True)
    assert render("local", "plain words", is_coloured=False) == "local   | plain words"
    assert render("store", "[1]", is_coloured=False) == "store   | [1]"


def test_the_last_line_of_a_service_tells_the_problem() -> None:
    assert problem_of('{"event": "service.cannot_start", "problem": "no model"}') == "no model"
    assert problem_of("FACEFERRY_X: is not set") == "FACEFERRY_X: is not set"


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (
            ["Front=x.mp4"],
            "source Front=x.mp4: 'Front' is no camera name: lower-case letters, digits and '-'",
        ),
        (["forward=x.mp4"], "source forward=x.mp4: a camera cannot be named 'forward'"),
        (["a=x.mp4", "a=y.mp4"], "two sources are named 'a'"),
        (["ftp://host/x"], "source ftp://host/***: the URL starts with none of v4l2, rtsp"),
        (
            ["yard=file:///x.mp4?pace=1"],
            "source yard=file:///x.mp4?pace=1: file takes no option 'pace', did you",
        ),
        (["rtsp://u:secret@host/x?size=no"], "source rtsp://***@host/***: size=no is not a size"),
        (["exec:cam --key secret 'open"], "source exec:cam ***: the command cannot be split into words"),
    ],
)
def test_a_source_that_cannot_be_is_called_what_its_user_called_it(sources: list[str], said: str) -> None:
    with pytest.raises(SetupError) as caught:
        camera_settings(sources, is_once=False)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)


def test_sources_without_a_name_take_none_that_another_has() -> None:
    settings = camera_settings(["test://", "camera-3=test://", "test://"], is_once=False)
    assert settings == ("camera=test://", "camera-3=test://", "camera-4=test://")


def test_options_may_stand_behind_the_name_of_a_file_that_is_there(tmp_path: Path) -> None:
    clip, odd = tmp_path / "clip.mp4", tmp_path / "what?loop=1"
    clip.touch()
    odd.touch()
    assert camera_settings([f"a={clip}?loop=1"], is_once=False) == (f"a=file://{clip}?loop=1",)
    assert camera_settings([f"{odd}"], is_once=False) == (f"camera=file://{tmp_path}/what%3Floop%3D1",)


def request(*sources: str, store: str | None = None) -> RunRequest:
    return RunRequest(
        sources, store, is_once=False, is_json=False, timeout_s=9.0, detector="haar", keep="visits"
    )


def test_sources_are_those_of_the_command_line_else_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "cameras").write_text("front=rtsp://u:p@host/a,b\nyard=test://\n")
    named = {"FACEFERRY_CAMERAS": "hall=csi://0", "FACEFERRY_CAMERAS_FILE": str(tmp_path / "cameras")}
    assert named_sources(request("x.mp4"), named) == ("x.mp4",)
    assert named_sources(request(), named) == ["hall=csi://0"]
    del named["FACEFERRY_CAMERAS"]
    assert named_sources(request(), named) == ["front=rtsp://u:p@host/a,b", "yard=test://"]
    assert not named_sources(request(), {})


def test_a_store_is_the_command_lines_else_the_environments_else_a_folder_here() -> None:
    named = {"FACEFERRY_STORE_URL": "s3://bucket/x"}
    assert where_to(request(store="/faces"), named) == ("file:///faces", "--store /faces")
    assert where_to(request(), named) == ("s3://bucket/x", "FACEFERRY_STORE_URL s3://bucket/x")
    url, called = where_to(request(), {})
    assert url == (Path.cwd() / "faceferry-data" / "faces").as_uri()
    assert called == f"{url} (--store names another place)"


@pytest.mark.parametrize("is_once", [False, True])
def test_the_demonstration_goes_on_until_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_once: bool
) -> None:
    monkeypatch.setattr(run, "first_camera", lambda: None)
    monkeypatch.setattr(run, "demo_clip", lambda folder: folder / "demo.mp4")
    said = io.StringIO()
    source, is_demonstration = run.default_source(Console(said), tmp_path, is_once=is_once)
    (camera,) = map(parse_camera, camera_settings([source], is_once=is_once))
    assert is_demonstration
    assert (camera.options.loop, camera.options.paced) == (not is_once, is_once)
    assert ("until Ctrl-C" in said.getvalue()) is not is_once


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DEVICE", "Porch Cam", "FACEFERRY_DEVICE: 'Porch Cam' is no device name"),
        ("KEEP", "some", "FACEFERRY_KEEP: Input should be 'visits' or 'every'"),
        ("DETECTOR", "yolo", "FACEFERRY_DETECTOR: Input should be 'auto', 'yunet'"),
        ("THREADS", "x", "FACEFERRY_THREADS: Input should be a valid integer"),
        ("RETAIN_DAYS", "0", "FACEFERRY_RETAIN_DAYS: a number of days from 1"),
        ("STORE_FILE_MODE", "9", "FACEFERRY_STORE_FILE_MODE: a mode of files is wanted"),
        ("GALLERY_TOKEN", "short", "FACEFERRY_GALLERY_TOKEN has less than 16"),
        ("VISIT_GAP_S", "-1", "FACEFERRY_VISIT_GAP_S: "),
    ],
)
def test_settings_of_every_service_are_looked_at_before_any_is_started(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    chosen = {"device": "porch", "cameras": "a=test://", "store_url": "file:///x", "keep": "visits"}
    chosen.pop(name.lower(), None)
    check_settings({**chosen, "device": "porch"}, has_gallery=True)
    monkeypatch.setenv(f"FACEFERRY_{name}", value)
    with pytest.raises(SetupError) as caught:
        check_settings(chosen, has_gallery=True)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_run_has_of_its_own_is_named_where_it_is_set() -> None:
    named = {
        "FACEFERRY_CLOUD_MQTT_URL": "mqtts://cloud",
        "FACEFERRY_SPOOL_PATH": "/x",
        "FACEFERRY_DEVICE": "a",
    }
    assert not_used(named) == ["FACEFERRY_CLOUD_MQTT_URL", "FACEFERRY_SPOOL_PATH"]


def test_the_end_of_a_recording_is_told_from_all_else() -> None:
    event = {"event": "capture.camera_offline", "camera": "front", "why": "ended"}
    assert ended_in(json.dumps(event)) == "front"
    assert ended_in(json.dumps({**event, "why": "busy"})) is None
    assert ended_in("capture.camera_offline") is None
    assert ended_in("[]") is None


@pytest.mark.parametrize("detector", ["centerface", "haar"])
def test_a_detector_in_yunets_place_is_said_once_more_at_the_end(detector: str) -> None:
    event = {"event": f"detect.fallback_to_{detector}", "problem": "no address", "advice": "do this"}
    said = io.StringIO()
    console = Console(said)
    console.say_final_warning()
    assert said.getvalue() == ""
    warning = fallback_in(json.dumps(event))
    assert warning == f"faces are looked for by {detector}, for: no address; do this"
    console.repeat_at_the_end(warning)
    console.say_final_warning()
    assert said.getvalue() == f"up      | warning: {warning}\n"


def test_other_lines_are_not_kept_for_the_end() -> None:
    assert fallback_in(json.dumps({"event": "detect.ready", "detector": "haar"})) is None
    assert fallback_in("detect.fallback_to_haar") is None
    assert fallback_in('["detect.fallback_to_haar"]') is None
    assert fallback_in(json.dumps({"event": "detect.fallback_to_haar", "problem": 1})) is None


def test_the_closing_line_names_the_detector() -> None:
    outcome = Outcome(330, 40, 40, 0, 12.34, "haar", "file:///faces", sights=688, visits=20)
    assert outcome.as_text() == (
        "330 frames, 688 sights, 20 visits, 40 faces, 40 stored, 0 refused in 12.3 s by haar: file:///faces"
    )


def test_the_systems_broker_goes_before_the_one_that_was_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, ours = tmp_path / "sbin/mosquitto", tmp_path / "venv/bin/mosquitto"
    monkeypatch.setattr(brokers, "_SYSTEM_FOLDERS", (str(system.parent),))
    monkeypatch.setattr(sys, "prefix", str(ours.parents[1]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"run \./scripts/up, .* or as root `apt-get install -y mosquitto`"):
        brokers.find_mosquitto()
    for broker in (ours, system):
        broker.parent.mkdir(parents=True)
        broker.touch(mode=0o755)
        assert brokers.find_mosquitto() == str(broker)


@pytest.mark.parametrize("is_once", [False, True])
def test_the_end_of_a_recording_is_news_only_to_who_waits_for_more(*, is_once: bool) -> None:
    said = io.StringIO()
    event = {"event": "capture.camera_offline", "camera": "front", "why": "ended"}
    run.tell(Console(said), "capture", json.dumps(event), is_once=is_once)
    assert ("front is played to its end" in said.getvalue()) is not is_once


def test_no_port_is_given_twice_though_nothing_listens_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    first = brokers.free_port()
    monkeypatch.setattr(brokers, "_LOWEST_PORT", first)
    monkeypatch.setattr(brokers, "_first_of_connections", lambda: first + 20)
    given = [brokers.free_port(first), *(brokers.free_port() for _ in range(8))]
    assert len({first, *given}) == 10
