"""Which ffmpeg is used, where the first that is found is old or does not work."""

import os
import shlex
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest

from services.capture.source import ffmpeg
from services.capture.source.child import AskFailed, ask
from services.capture.source.ffmpeg import choose_ffmpeg, find_ffmpeg, has_filter, parse_version
from services.commands import doctor
from services.common.errors import SetupError

# What programs of these versions print, as far as it matters.
NEW = "echo 'ffmpeg version 6.1.1-3ubuntu5 Copyright (c) 2000-2023 the FFmpeg developers'"
NO_FPS_MODE = "echo \"Unrecognized option 'fps_mode'.\" >&2; exit 1"
FPS_MODE = "echo 'Trailing option(s) found in the command: may be ignored.' >&2; exit 1"

UNSUITABLE = {
    "Ubuntu 22.04's": (
        "echo 'ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright (c)'",
        "is 4.4.2-0ubuntu0.22.04.1",
    ),
    "a static one": ("echo 'ffmpeg version 4.2.2-static https://example.org/'", "is 4.2.2-static, too old"),
    "a Jetson's": ("echo 'ffmpeg version 3.4.11-0ubuntu0.1 Copyright (c)'", "3.4.11"),
    "one release too old": ("echo 'ffmpeg version n5.0.3 Copyright (c)'", "n5.0.3"),
    "built between old releases": (
        f"case $1 in -version) echo 'ffmpeg version N-99999-gdeadbeef Copyright';; *) {NO_FPS_MODE};; esac",
        "N-99999-gdeadbeef, too old",
    ),
    "libraries are missing": (
        "echo 'libavdevice.so.59: cannot open shared object file' >&2; exit 127",
        "libavdevice",
    ),
    "ends with an error": ("exit 3", "status 3"),
    "crashes": ("kill -ILL $$", "status -4"),
    "another program": ("echo hello", "is no ffmpeg"),
    "hangs": ("sleep 100", "does not answer"),
    "its child hangs": ("sleep 100 & echo 'ffmpeg version 6.0'", "does not answer"),
    "never stops talking": ("yes", "does not stop talking"),
}


def program(folder: Path, script: str | bytes, name: str = "ffmpeg") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(script if isinstance(script, bytes) else f"#!/bin/sh\n{script}\n".encode())
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH; programs are waited for only briefly."""
    monkeypatch.setattr(ffmpeg, "_TIMEOUT_S", 2.0)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "first"), os.environ["PATH"]]))
    return tmp_path / "first"


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("4.4.2-0ubuntu0.22.04.1", (4, 4)),
        ("5.1.6-0+deb12u1", (5, 1)),
        ("n6.0", (6, 0)),
        ("7.0.2-static", (7, 0)),
        ("0.8.17-4:0.8.17-0ubuntu0.12.04.2", (0, 8)),
        ("10.11", (10, 11)),
        ("N-109542-g1bf1432e4d", None),
        ("2024-05-13-git-37db0454e4-full_build-www.gyan.dev", None),
        ("git-2020-01-01-0000000", None),
        ("n5.1-dev-1234-gabcdef0", None),
        ("n9.0.2-17-g2a571b6068-20260930", None),
        ("", None),
    ],
)
def test_releases_are_told_from_what_was_built_between_them(
    version: str, release: tuple[int, int] | None
) -> None:
    assert parse_version(version) == release


@pytest.mark.parametrize(
    "script", [NEW, f"case $1 in -version) echo 'ffmpeg version N-1-gabcdef0';; *) {FPS_MODE};; esac"]
)
def test_a_good_one_on_the_path_is_used_and_nothing_is_said(folder: Path, script: str) -> None:
    found = choose_ffmpeg_at(program(folder, script))
    assert found.passed_over == ()


def choose_ffmpeg_at(path: Path) -> ffmpeg.Ffmpeg:
    found = choose_ffmpeg()
    assert found.program == str(path)
    return found


@pytest.mark.parametrize(("script", "said"), UNSUITABLE.values(), ids=UNSUITABLE)
def test_an_unsuitable_one_is_passed_over_for_the_next_and_said(folder: Path, script: str, said: str) -> None:
    bad = program(folder, script)
    began_s = time.monotonic()
    found = choose_ffmpeg()
    assert time.monotonic() - began_s < 8
    assert found.program != str(bad)
    assert said in found.passed_over[0]
    assert str(bad) in found.passed_over[0]


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01\x01" + bytes(200), b"#!/no/such/loader\n", b"\x00\x01\x02"]
)
def test_one_for_another_machine_is_passed_over(folder: Path, content: bytes) -> None:
    program(folder, content)
    assert "cannot be started" in choose_ffmpeg().passed_over[0]


def test_one_that_may_not_be_run_is_none(folder: Path) -> None:
    program(folder, NEW).chmod(0o644)
    assert choose_ffmpeg().passed_over == ()


def test_a_second_one_on_the_path_comes_before_the_bundled(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = program(folder, "echo 'ffmpeg version 4.4'"), program(tmp_path / "second", NEW)
    monkeypatch.setenv("PATH", f"{old.parent}:{new.parent}:/usr/bin:/bin")
    assert choose_ffmpeg_at(new).passed_over == (f"{old} is 4.4, too old",)


def test_where_none_will_do_one_line_says_what_was_found_and_how_new_it_must_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = program(folder, "echo 'ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright'")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(ffmpeg, "_bundled", list)
    with pytest.raises(SetupError) as caught:
        choose_ffmpeg()
    assert f"{old} is 4.4.2-0ubuntu0.22.04.1, too old" in str(caught.value)
    assert "5.1 or newer" in str(caught.value)
    assert "\n" not in str(caught.value)
    old.unlink()
    with pytest.raises(SetupError, match="not installed"):
        choose_ffmpeg()


def test_one_that_is_named_is_used_or_refused_by_its_setting(folder: Path) -> None:
    old = program(folder, "echo 'ffmpeg version 4.4'")
    with pytest.raises(SetupError, match=r"FACEFERRY_FFMPEG: .* is 4\.4, too old; ffmpeg 5\.1 or newer"):
        choose_ffmpeg(old)
    with pytest.raises(SetupError, match=r"FACEFERRY_FFMPEG: .* is no program"):
        choose_ffmpeg(folder / "nothing")
    good = program(folder, NEW, "good")
    assert find_ffmpeg(good) == str(good)


def test_filters_of_one_that_does_not_tell_are_not_used(folder: Path) -> None:
    assert has_filter(str(program(folder, "echo ' .. zscale  V->V '")), "zscale")
    assert not has_filter(str(program(folder, "sleep 100")), "zscale")
    assert not has_filter(str(folder / "nothing"), "zscale")


async def test_doctor_says_what_was_passed_over(folder: Path) -> None:
    old = program(folder, "echo 'ffmpeg version 4.4'")
    finding = await doctor._ffmpeg()
    assert not finding.is_fine
    assert not finding.is_needed
    assert f"{old} is 4.4, too old" in finding.text


def test_what_was_asked_leaves_nothing_behind(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = program(tmp_path, f"sleep 100 & echo $! > {shlex.quote(str(marker))}; wait")
    with pytest.raises(AskFailed):
        ask([str(script)], 0.5)
    left = int(marker.read_text())
    psutil.wait_procs([psutil.Process(left)] if psutil.pid_exists(left) else [], timeout=30)
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(AskFailed, match="stop talking"):
        ask([sys.executable, "-c", "while True: print('x' * 999)"], 10)
