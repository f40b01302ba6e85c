"""The README's commands, as they stand there, on systems where nobody has been before.

One of them runs by default, the others with `-m "long or not long"`. What is fetched is kept for the next
time, so that the seconds of a first run are those of a newcomer.
"""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.newcomer.bare import USER, Bare, bare_system
from tests.newcomer.documents import block, command

pytestmark = pytest.mark.timeout(3600)

UP, TEST = block("README.md", "./scripts/test ").commands()
RECORDING = command("README.md", "./scripts/up clip.mkv --once", language="console")
BY_HAND = "as root: apt-get update && apt-get install -y"
FACES = "faceferry-data/faces"

ROOT, SUDO, NOBODY = "root", "may use sudo", "may not"
SYSTEMS = [
    pytest.param(("trixie", NOBODY), id="trixie-without-root"),
    *(
        pytest.param((suite, who), id=f"{suite}-{name}", marks=pytest.mark.long)
        for suite, who, name in (
            ("bookworm", NOBODY, "without-root"),
            ("bookworm", SUDO, "sudo"),
            ("trixie", SUDO, "sudo"),
            ("bookworm", ROOT, "root"),
            ("trixie", ROOT, "root"),
        )
    ),
]


@pytest.fixture(params=SYSTEMS)
def bare(request: pytest.FixtureRequest) -> Iterator[Bare]:
    """A system; who may not install anything has Python, which the installer's Debian has, and no more."""
    suite, who = request.param
    with bare_system(suite, "root" if who == ROOT else USER) as bare:
        if who == SUDO:
            bare.allow_sudo()
        yield bare
        request.node.user_properties.extend((f"{request.node.name}: {what}", s) for what, s in bare.times)


def faces(bare: Bare) -> list[Path]:
    return list((bare.clone / FACES).glob("dt=*/**/*.jpg"))


def test_whoever_may_not_install_is_told_all_that_is_missing_in_one_line() -> None:
    with bare_system("trixie", USER) as bare:
        done = bare.run(UP)
        names = "mosquitto python3 python3-venv ca-certificates"
        assert (done.status, done.said) == (
            2,
            [f"needed, and neither root nor sudo to install it; {BY_HAND} {names}"],
        )

        (bare.clone / ".venv").mkdir()
        done = bare.run(UP)
        said = f"/home/{USER}/faceferry/.venv belongs to root: give it to yourself, or remove it"
        assert (done.status, done.said) == (2, [said])


def test_up_ends_with_faces_and_a_recording_is_stored_once(
    bare: Bare, request: pytest.FixtureRequest
) -> None:
    """All in one test, for each step stands on the one before."""
    if bare.user == USER and not (bare.root / "usr/bin/sudo").exists():
        bare.install("python3", "ca-certificates")

    up = bare.start(UP)
    up.wait(lambda: bool(faces(bare)), within_s=1500)
    bare.times.append(("up, to the first face of the demonstration", up.seconds))
    up.interrupt()
    assert up.end(60).status in {0, 130}

    (demonstration,) = bare.home.glob(".local/**/demo.mp4")
    shutil.copy(demonstration, bare.clone / "clip.mkv")
    shutil.rmtree(bare.clone / FACES)
    done = bare.timed("up with a recording, once", bare.run(RECORDING, within_s=300).fine())
    assert faces(bare)
    assert any(f" {len(faces(bare))} stored, 0 refused" in line for line in done.said)

    if request.node.get_closest_marker("long"):
        selection = f"{TEST.partition('#')[0]} tests/unit/test_faces.py"
        done = bare.timed("the first run of the tests, one file of them", bare.run(selection).fine())
        assert re.search(r"\d+ passed", done.said[-1])
        interrupted_and_moved(bare)


def interrupted_and_moved(bare: Bare) -> None:
    """An installation that Ctrl-C ended is taken up again, and one whose clone was moved is made anew."""
    bare.clone.rename(bare.home / "moved here")
    bare.place = "moved here"
    up = bare.start(RECORDING)
    up.wait(lambda: any("installing" in line and "Python packages" in line for line in up.said), within_s=300)
    time.sleep(5)
    up.interrupt()
    assert up.end(60).status != 0
    assert "making .venv anew: it was made in another place" in up.said
    bare.timed("up after Ctrl-C in the middle of installing", bare.run(RECORDING).fine())
