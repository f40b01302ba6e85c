"""The other ways to run it: everything on one machine, passwords in place of certificates, live pictures."""

import json
from http import HTTPStatus
from pathlib import Path

import pytest

from services.up.brokers import free_port
from tests.containers.bucket import Bucket
from tests.containers.engine import IMAGES, ROOT, Project, ask, until
from tests.containers.site import Site

pytestmark = [pytest.mark.timeout(200), pytest.mark.usefixtures("images")]

LEAST_FACES = 178
JPEG = b"\xff\xd8\xff"


DEVELOPMENT_TOKEN = {"Authorization": "Bearer for-trying-out-alone"}


def test_the_development_file_needs_one_command(clips: Path, tmp_path: Path) -> None:
    """And another to end it, without the clip's name."""
    port, page = free_port(), free_port()
    settings = {
        "FACEFERRY_CLIP": str(clips / "classroom.mp4"),
        "FACEFERRY_S3_PORT": str(port),
        "FACEFERRY_GALLERY_PORT": str(page),
        "FACEFERRY_KEEP": "every",
    }
    bucket = Bucket(port, {"AWS_ACCESS_KEY_ID": "faceferry", "AWS_SECRET_ACCESS_KEY": "for-trying-out"})
    with Project([ROOT / "compose/dev.compose.yaml", our_images(tmp_path)], settings, tmp_path) as project:
        project.up()
        until(lambda: len(bucket.ids()) >= LEAST_FACES, 60)
        assert ask(page, "/", {})[0] == HTTPStatus.UNAUTHORIZED
        until(lambda: b"/image/" in ask(page, "/", DEVELOPMENT_TOKEN)[1], 30)
        project.configure(FACEFERRY_CLIP="")
        project("down", "--timeout", "2")


@pytest.mark.parametrize("named", ["not-there.mp4", None])
def test_the_development_file_names_a_clip_that_is_not_there_and_makes_no_folder(
    named: str | None, tmp_path: Path
) -> None:
    clip = tmp_path / named if named else ""
    settings = {"FACEFERRY_CLIP": str(clip), "FACEFERRY_S3_PORT": str(free_port())}
    with Project([ROOT / "compose/dev.compose.yaml", our_images(tmp_path)], settings, tmp_path) as project:
        wanted = clip or "/FACEFERRY_CLIP names a video with faces in it"
        with pytest.raises(AssertionError, match=f"bind source path does not exist: {wanted}"):
            project("up", "-d", "--no-build")
        assert not Path(wanted).exists()


def our_images(folder: Path) -> Path:
    """Return a compose file with the names that our images have here; the development file has its own."""
    services = {
        "capture": "capture",
        "detect": "detect",
        "forward": "forward",
        "store": "store",
        "gallery": "store",
        "bucket": "store",
    }
    path = folder / "images.json"
    named = {name: {"image": f"{IMAGES}/{image}:test"} for name, image in services.items()}
    path.write_text(json.dumps({"services": named}))
    return path


def test_faces_arrive_in_websockets(site: Site, clips: Path, tmp_path: Path) -> None:
    """With the same certificates, names and access rules; before those with passwords take them away."""
    port = free_port()
    compose = ROOT / "compose"
    clouds = [compose / "cloud/compose.yaml", compose / "cloud/websockets.yaml"]
    there = {**site.cloud_settings(), "FACEFERRY_WEBSOCKET_PORT": str(port)}
    here = {**site.edge_settings(clips), "FACEFERRY_CLOUD_MQTT_URL": f"wss://{site.host}:{port}"}
    keys = {"AWS_SHARED_CREDENTIALS_FILE": str(site.cloud / "aws-credentials")}
    with (
        Project(clouds, there, tmp_path) as cloud,
        Project([compose / "edge/compose.yaml"], here, tmp_path) as edge,
    ):
        cloud.up()
        edge.up()
        until(lambda: len(Bucket(site.s3_port, keys).ids()) >= LEAST_FACES, 60)


def test_faces_arrive_with_passwords(site: Site, clips: Path, tmp_path: Path) -> None:
    site.write_passwords({"porch": "over-the-sea", "_store": "under-the-bridge"})
    # None of these is wanted then.
    for secret in (site.cloud / "store.key", site.cloud / "crl.pem", site.edge / "device.key"):
        secret.unlink()
    url = f"mqtts://porch@{site.host}:{site.mqtt_port}"
    compose = ROOT / "compose"
    clouds = [compose / "cloud/compose.yaml", compose / "cloud/passwords.yaml"]
    edges = [compose / "edge/compose.yaml", compose / "edge/passwords.yaml"]
    settings = {**site.edge_settings(clips), "FACEFERRY_CLOUD_MQTT_URL": url}
    keys = {"AWS_SHARED_CREDENTIALS_FILE": str(site.cloud / "aws-credentials")}
    with (
        Project(clouds, site.cloud_settings(), tmp_path) as cloud,
        Project(edges, settings, tmp_path) as edge,
    ):
        cloud.up()
        edge.up()
        until(lambda: len(Bucket(site.s3_port, keys).ids()) >= LEAST_FACES, 60)


def test_live_pictures_are_shown_to_whoever_knows_the_token(site: Site, clips: Path, tmp_path: Path) -> None:
    token, port = "what-one-has-to-know", free_port()
    with_token = {"Authorization": f"Bearer {token}"}
    (site.edge / "live-token").write_text(token + "\n")
    cameras = site.edge / "cameras"
    cameras.write_text("front=file:///recordings/classroom.mp4?loop=1\n")
    settings = site.edge_settings(clips) | {
        "FACEFERRY_CAMERAS": "",
        "FACEFERRY_CAMERAS_FILE": str(cameras),
        "FACEFERRY_LIVE_PORT": str(port),
    }
    files = [ROOT / "compose/edge/compose.yaml", ROOT / "compose/edge/live.yaml"]
    with Project(files, settings, tmp_path) as edge:
        edge.up("capture")
        assert ask(port, "/live/front.jpg", {})[0] == HTTPStatus.UNAUTHORIZED
        until(lambda: ask(port, "/live/front.jpg", with_token)[1].startswith(JPEG), 30)
