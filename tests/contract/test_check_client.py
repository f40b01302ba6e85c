"""`faceferry check-client` with real clients: the examples, paho for Go, our own services, and bad ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import node_program
from tests.conftest import skip
from tests.detect_clips import MODELS, clip_jpegs
from tests.go_program import GoProgram
from tests.storing import jpeg

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
CLIENTS = ROOT / "tests" / "clients"
GO_CLIENT = GoProgram("publish-faces", CLIENTS, ("publish_faces.go", "go.mod", "go.sum"), ["-trimpath", "."])
BUILD_TIMEOUT_S = 100.0


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{number}.jpg" for number in (1, 2)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(number))
    return [str(path) for path in paths]


def check(plays: str, *client: str, options: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
    """Have a client checked; return the exit status and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "check-client", plays, *options, "--client", *client],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def is_all_right(found: tuple[int, str]) -> bool:
    status, said = found
    marks = [line.split()[0] for line in said.splitlines() if line.startswith(("ok", "WRONG", "?"))]
    return status == 0 and len(marks) >= 5 and set(marks) == {"ok"}


def test_nothing_is_wrong_with_the_example_in_python(pictures: list[str]) -> None:
    found = check("store", sys.executable, str(EXAMPLES / "publish_faces.py"), "porch", "door", *pictures)
    assert is_all_right(found), found


def test_nothing_is_wrong_with_the_example_in_javascript(pictures: list[str]) -> None:
    where = str(node_program.modules(EXAMPLES))
    client = ("node", str(EXAMPLES / "publish_faces.js"), "porch", "door", *pictures)
    found = check("forward", *client, NODE_PATH=where)
    assert is_all_right(found), found


def test_nothing_is_wrong_with_a_client_in_go(pictures: list[str]) -> None:
    if (why := GO_CLIENT.build(BUILD_TIMEOUT_S)) is not None:
        skip(f"no client in Go: {why}")
    found = check("store", str(GO_CLIENT.path), "porch", "door", *pictures)
    assert is_all_right(found), found


def test_a_client_that_gives_up_is_found_out(pictures: list[str]) -> None:
    """As the first ones were that people wrote from the page: they publish, wait, and leave."""
    source = (EXAMPLES / "publish_faces.py").read_text().replace("while waiting:\n", "if waiting:\n", 1)
    status, said = check("store", sys.executable, "-c", source, "porch", "door", pictures[0])
    assert status == 1
    assert "WRONG a face without a receipt is sent again" in said
    assert "the client left" in said


def test_a_client_with_a_wrong_name_hears_why_and_so_do_we(pictures: list[str]) -> None:
    example = str(EXAMPLES / "publish_faces.py")
    status, said = check("store", sys.executable, example, "Jetson-NX", "door", pictures[0])
    assert status == 1
    assert "bad_topic" in said.split("WRONG")[0]  # as the client prints it: a refusal reaches it
    assert "right: faceferry/{device}/{camera}/face; names are a-z" in said


def test_without_a_broker_it_says_so() -> None:
    status, said = check("store", "true", options=("--broker", "mqtt://127.0.0.1:1"))
    assert status == 2
    assert "no connection to mqtt://127.0.0.1:1" in said


def service(name: str, **settings: str) -> list[str]:
    """A command that starts one of our services on the broker that it is told."""
    environment = {"FACEFERRY_DEVICE": "porch", "FACEFERRY_HTTP_PORT": "0", **settings}
    words = " ".join(f"{key}='{value}'" for key, value in environment.items())
    return [
        "sh",
        "-c",
        f"{words} FACEFERRY_LOCAL_MQTT_URL=$MQTT_URL exec {sys.executable} -m services.{name}",
    ]


@pytest.mark.long  # a camera is watched for as long as it takes to see whether it waits
@pytest.mark.parametrize("camera", ["test://", "file://{clip}?paced=1"], ids=["live", "paced"])
def test_nothing_is_wrong_with_our_own_capture(camera: str, clips: Path) -> None:
    address = camera.format(clip=clips / "head-pose-face-detection-female-and-male.mp4")
    found = check("detect", *service("capture", FACEFERRY_CAMERAS=f"front={address}"))
    assert is_all_right(found), found


@pytest.mark.long  # likewise
def test_nothing_is_wrong_with_our_own_detect(clips: Path, tmp_path: Path) -> None:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    picture = tmp_path / "face.jpg"
    picture.write_bytes(clip_jpegs(clips / "head-pose-face-detection-female-and-male.mp4")[0])
    detect = service("detect", FACEFERRY_MODEL_DIR=str(MODELS))
    found = check("capture", *detect, options=("--picture", str(picture)))
    assert is_all_right(found), found
