"""`faceferry up` with the page that shows what comes of it."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.conftest import skip
from tests.support import SHARED, eventually


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    model_dir = Path(os.environ.get("FACEFERRY_MODEL_DIR", SHARED / "models"))
    if not (model_dir / "yunet_n_dynamic.onnx").exists():
        skip("no YuNet model: name its folder in FACEFERRY_MODEL_DIR")
    own = {"XDG_STATE_HOME": str(tmp_path), "FACEFERRY_MODEL_DIR": str(model_dir), "FACEFERRY_DEVICE": "edge"}
    return {**os.environ, **own}


def command(source: Path, store: Path, *more: str) -> list[str]:
    # As on a machine of one's own, whoever has accounts on this one.
    wanted = ["--shared", "no", "--source", f"front={source}", "--store", str(store), *more]
    return [sys.executable, "-m", "services.cli", "up", *wanted]


def fetch(url: str) -> str:
    """Return a page; nothing while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - what `up` printed
            return str(answer.read().decode(errors="replace"))
    except (urllib.error.URLError, ConnectionError):
        return ""


async def test_up_shows_the_faces_at_the_address_that_it_prints(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else is to run meanwhile
            command(clips / "classroom.mp4", tmp_path / "faces"), env=environment, stdout=file, stderr=file
        )
    try:
        said = r"look at the faces at (\S+), and at the cameras at (\S+)"
        await eventually(lambda: re.search(said, log.read_text()), 20)
        found = re.search(said, log.read_text())
        assert found is not None
        await eventually(lambda: 'alt="Face from edge/front at ' in fetch(found[1]), 30)
        assert 'data-status="edge/front"' in fetch(f"{found[1]}devices")
        assert "/live/front.mjpeg" in fetch(found[2])
        names = {child.cmdline()[-1] for child in psutil.Process(process.pid).children()}
        assert "services.gallery" in names
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_run_over_recordings_starts_no_gallery(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    done = subprocess.run(
        command(clips / "book.mkv", tmp_path / "faces", "--once"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "gallery" not in done.stderr
    assert "look at the faces" not in done.stderr
