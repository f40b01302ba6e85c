import json
import os
from pathlib import Path

import pytest

from services.capture.cameras import parse_camera
from services.common.errors import SetupError
from services.common.storage.addresses import store_url
from services.common.storage.locations import Folder, parse_location
from services.up.console import problem_of, render
from services.up.journal import Journal
from services.up.places import state_folder
from services.up.plan import camera_settings, device_name


def write(path: Path, *entries: object) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def seen(journal: Journal) -> tuple[int, int | None, bool]:
    """Return frames answered, frames in all, and whether every source has finished."""
    journal.follow()
    return journal.frames, journal.all_frames, journal.is_finished


def test_journal_counts_frames_and_distinct_faces(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, ["front", "yard"])
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
    journal = Journal(path, ["front"])
    write(path, {"source": "front", "frames": 9}, {"source": "front", "frame": 0, "faces": ["a"]})
    journal.follow()
    path.write_text("")
    write(path, {"source": "front", "frames": 9})
    journal.follow()
    assert (journal.frames, journal.faces) == (0, {})


def test_journal_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, ["front"])
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
    assert parse_location(url) == Folder(Path("/café 50%"))
    with pytest.raises(SetupError, match="not UTF-8"):
        store_url(os.fsdecode(b"/caf\xe9"))


def test_once_plays_files_paced_and_nothing_else() -> None:
    assert camera_settings(["/x.mp4"], is_once=True) == ("camera=file:///x.mp4?paced=1",)
    assert camera_settings(["file:///x.mp4?fps=5"], is_once=True) == ("camera=file:///x.mp4?fps=5&paced=1",)
    assert camera_settings(["file:///x.mp4?paced=1"], is_once=True) == ("camera=file:///x.mp4?paced=1",)
    with pytest.raises(SetupError, match="plays files"):
        camera_settings(["rtsp://host/x"], is_once=True)


def test_runs_into_one_store_share_their_state() -> None:
    assert store_url("/a b") == "file:///a%20b"
    assert store_url("s3://bucket/x") == "s3://bucket/x"
    assert parse_location(store_url("/a#b?c%")) == Folder(Path("/a#b?c%"))


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
