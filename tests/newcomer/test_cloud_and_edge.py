"""docs/install.md and docs/operations.md as they stand there, typed by a user in the group `docker`.

The cloud VM and the device are both this machine. Wanted are root, to make the user, and a container engine
with the base images; without one of these all is skipped. It took 6 minutes on an idle machine:
`./scripts/test tests/newcomer/test_cloud_and_edge.py -m long`.
"""

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509

from services.pki.certificates import hosts_of
from services.up.brokers import free_port
from tests.conftest import skip
from tests.containers.engine import ask, docker, gateway, until
from tests.newcomer.docker_user import INSTALL, OPERATIONS, TROUBLESHOOTING, DockerUser, docker_user, sources
from tests.newcomer.documents import ROOT, Block, block, blocks, command

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

CLOUD = "faceferry/compose/cloud"
EDGE = "device/faceferry/compose/edge"
CLIP = "book.mkv"
"""One face in each frame."""
RECORDING = f"file:///recordings/{CLIP}?loop=1&fps=5"


@pytest.fixture(scope="module")
def user() -> Iterator[DockerUser]:
    if os.geteuid() != 0:
        skip("only root can make a user")
    with docker_user() as made:
        try:
            yield made
        finally:
            for folder in (EDGE, CLOUD):
                if (made.home / folder).is_dir():
                    made.types("docker compose down --volumes --timeout 2 --remove-orphans", folder)


@pytest.fixture(scope="module")
def cloud(user: DockerUser) -> DockerUser:
    """The cloud's side, as the documents have it."""
    steps = block(INSTALL, "pki init --host").exchanged(
        ("git clone ...", f"git clone -q {sources(user)}"), ("cloud.example.org", gateway())
    )
    user.types(steps)
    return user


@pytest.fixture(scope="module")
def edge(cloud: DockerUser, clips: Path) -> DockerUser:
    """A device beside it, with a recording in the place of a camera."""
    cloud.types(
        block(INSTALL, "pki device porch").exchanged(
            ("scp secrets/devices/porch.tar porch:", "mv secrets/devices/porch.tar ~/"),
            ("rm secrets/devices/porch.tar", "ls ~/porch.tar"),
        ),
        CLOUD,
    )
    (cloud.home / "device").mkdir()
    (cloud.home / "clips").mkdir()
    shutil.copy(clips / CLIP, cloud.home / "clips")
    for folder in ("device", "clips"):
        cloud.owns(cloud.home / folder)
    steps = block(INSTALL, "~/porch.tar -C secrets").exchanged(
        ("git clone ...", f"git clone -q {cloud.home / 'sources'}")
    )
    cloud.types(steps, "device")
    told = block(INSTALL, "FACEFERRY_DEVICE=porch", language="ini").exchanged(
        ("cloud.example.org", gateway()),
        ("v4l2:///dev/video0?size=1280x720", RECORDING),
    )
    settings = dict(line.split("=", 1) for line in told.text.splitlines())
    cloud.sets(EDGE, **settings, FACEFERRY_RECORDINGS=str(cloud.home / "clips"), FACEFERRY_KEEP="every")
    cloud.types(up().commands()[0], EDGE)
    return cloud


def up() -> Block:
    return block(INSTALL, "faceferry status --once")


def status(edge: DockerUser) -> subprocess.CompletedProcess[str]:
    asked = up().commands()[1].partition("#")[0]
    return edge.types(f"{asked} && echo WELL || echo NOT WELL", EDGE)


def faces(user: DockerUser) -> list[str]:
    """What `faceferry faces` lists, all of it."""
    told = user.types(
        f"{command(INSTALL, 'docker compose exec store faceferry faces').partition('#')[0]} --limit 0", CLOUD
    )
    return [line for line in told.stdout.splitlines() if line]


def services(user: DockerUser, folder: str) -> dict[str, str]:
    """The health of each service that runs; of replicas the last one's."""
    told = user.types("docker compose ps --format json", folder).stdout
    return {one["Service"]: one["Health"] for one in map(json.loads, told.splitlines())}


def is_well(edge: DockerUser) -> None:
    """Wait until a device has found its camera and its cloud; this machine may have other things to do."""
    until(lambda: status(edge).stdout.rstrip().endswith("\nWELL"), 240, lambda: status(edge).stdout)


def are_healthy(user: DockerUser, folder: str) -> None:
    until(lambda: set(services(user, folder).values()) == {"healthy"}, 240)


def test_cloud_and_device_are_up_and_a_face_is_in_the_bucket(edge: DockerUser) -> None:
    is_well(edge)
    are_healthy(edge, CLOUD)
    are_healthy(edge, EDGE)
    until(lambda: faces(edge), 60)


def test_what_is_in_secrets_can_be_read_by_the_user_and_no_other(edge: DockerUser) -> None:
    uid, gid = edge.home.stat().st_uid, edge.home.stat().st_gid
    for folder in (CLOUD, EDGE):
        secrets = edge.home / folder / "secrets"
        for path in (secrets, *secrets.rglob("*")):
            found = path.stat()
            assert (found.st_uid, found.st_gid) == (uid, gid), path
            is_public = path.suffix in (".crt", ".pem")
            assert stat.S_IMODE(found.st_mode) == (
                0o700 if path.is_dir() else 0o644 if is_public else 0o600
            ), path
    ids = (
        edge.types("docker compose ps -q", CLOUD).stdout.split()
        + edge.types("docker compose ps -q", EDGE).stdout.split()
    )
    assert {docker("inspect", "-f", "{{.Config.User}}", one).strip() for one in ids} == {f"{uid}:{gid}"}


def test_a_device_without_camera_and_cloud_is_healthy_and_status_says_what_is_missing(
    edge: DockerUser,
) -> None:
    edge.types("docker compose stop broker", CLOUD)
    edge.sets(EDGE, FACEFERRY_CAMERAS="front=v4l2:///dev/video99")
    edge.types(up().commands()[0], EDGE)
    are_healthy(edge, EDGE)
    until(lambda: "offline" in status(edge).stdout, 60, lambda: str(status(edge).stdout))
    told = status(edge).stdout
    assert re.search(r"front +offline \(unavailable\)", told), told
    assert re.search(r"forward +cloud .* down", told), told
    assert told.rstrip().endswith("NOT WELL"), told
    edge.types("docker compose start broker", CLOUD)
    until(lambda: re.search(r"forward +cloud .* up", status(edge).stdout), 60)
    assert status(edge).stdout.rstrip().endswith("NOT WELL")
    edge.sets(EDGE, FACEFERRY_CAMERAS=f"front={RECORDING}")
    edge.types(up().commands()[0], EDGE)
    is_well(edge)


@pytest.mark.parametrize(("folder", "service"), [(CLOUD, "store"), (EDGE, "detect")])
def test_replicas_stay_when_up_is_typed_again(edge: DockerUser, folder: str, service: str) -> None:
    def count() -> int:
        return len(edge.types(f"docker compose ps -q {service}", folder).stdout.split())

    edge.sets(folder, **{f"FACEFERRY_{service.upper()}_REPLICAS": "2"})
    for _ in range(2):
        edge.types(up().commands()[0], folder)
        assert count() == 2
    edge.sets(folder, **{f"FACEFERRY_{service.upper()}_REPLICAS": "1"})
    edge.types(up().commands()[0], folder)
    assert count() == 1


def test_a_second_capture_wants_a_port_of_its_own_for_live_pictures(edge: DockerUser) -> None:
    port = free_port()
    edge.sets(EDGE, COMPOSE_FILE="compose.yaml:live.yaml", FACEFERRY_LIVE_PORT=str(port))
    edge.types(block(INSTALL, "secrets/live-token"), EDGE)
    second = command(OPERATIONS, "docker compose up -d --scale capture=2")
    refused = edge.types(second, EDGE, fails=True)
    assert refused.returncode == 1
    assert f"Bind for 127.0.0.1:{port} failed: port is already allocated" in refused.stderr
    edge.sets(EDGE, FACEFERRY_LIVE_PORT=f"{port}-{port + 1}")
    edge.types(second, EDGE)
    edge.sets(EDGE, COMPOSE_FILE="compose.yaml")
    edge.types(up().commands()[0], EDGE)


def test_the_gallery_is_there_for_who_has_the_token(edge: DockerUser) -> None:
    port = free_port()
    edge.sets(CLOUD, COMPOSE_PROFILES="selfhost,gallery", FACEFERRY_GALLERY_PORT=str(port))
    edge.types(block(INSTALL, "secrets/gallery-token"), CLOUD)
    token = edge.types("cat secrets/gallery-token", CLOUD).stdout.strip()
    until(lambda: services(edge, CLOUD)["gallery"] == "healthy", 60)
    assert ask(port, "/", {})[0] == HTTPStatus.UNAUTHORIZED
    assert ask(port, "/", {"Authorization": f"Bearer {token}"})[0] == HTTPStatus.OK


def test_the_broker_gets_another_name_besides(edge: DockerUser) -> None:
    crt = edge.home / CLOUD / "secrets/server.crt"
    before = hosts_of(x509.load_pem_x509_certificate(crt.read_bytes()))
    told = edge.types(
        command(OPERATIONS, "docker compose run --rm pki renew _server --add-host"), CLOUD
    ).stdout
    assert "docker compose restart broker" in told
    assert hosts_of(x509.load_pem_x509_certificate(crt.read_bytes())) == [*before, "new.example.org"]
    edge.types("docker compose restart broker", CLOUD)
    is_well(edge)
    listed = edge.types(command(OPERATIONS, "docker compose run --rm pki list"), CLOUD).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {
        "_authority",
        "_gallery",
        "_server",
        "_store",
        "porch",
    }


def test_a_spool_moves_with_the_faces_in_it(edge: DockerUser) -> None:
    edge.types("docker compose stop broker", CLOUD)
    until(lambda: "no connection" in status(edge).stdout, 60, lambda: str(status(edge).stdout))
    until(lambda: waiting(edge) > 10, 60)
    edge.types("docker compose stop capture", EDGE)
    known = waiting(edge)
    away, back = blocks_of("spool.tar")
    edge.types(away, EDGE)
    assert stat.S_IMODE((edge.home / "spool.tar").stat().st_mode) == 0o600
    edge.types("docker compose down --volumes", EDGE)
    edge.types(
        back.text.replace("docker compose up -d", "docker compose up -d broker detect forward"),
        EDGE,
    )
    assert waiting(edge) >= known
    edge.types("docker compose start broker", CLOUD)
    until(lambda: waiting(edge) == 0, 120)


def test_faces_come_back_from_a_backup(edge: DockerUser) -> None:
    """After all that the cloud's side had is gone; the device is silent meanwhile."""
    edge.types("docker compose down", EDGE)
    known = faces(edge)
    assert len(known) > 10
    settings = block(OPERATIONS, "~/faceferry.tar.gz").commands()
    edge.types(settings[0], CLOUD)
    away, back = blocks_of("backup:/backup")
    edge.types(away, CLOUD)
    edge.types("docker compose down --volumes && rm -r secrets .env", CLOUD)
    edge.types(settings[1], CLOUD)
    edge.types(back, CLOUD)
    assert faces(edge) == known
    edge.types(away.exchanged(("/backup/faces", "/backup/again")), CLOUD)
    before, after = (known_of(edge.home / CLOUD / "backup" / name) for name in ("faces", "again"))
    assert len(after) == len(known)
    assert after == before


def known_of(folder: Path) -> dict[str, object]:
    """What a folder's faces have beside them, by the picture's place."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.glob("dt=*/**/*.json")
    }


def test_a_file_of_another_s_is_named_and_the_documented_command_gives_it_back(edge: DockerUser) -> None:
    secret = edge.home / CLOUD / "secrets/s3-server.env"
    os.chown(secret, 0, 0)
    refused = edge.types("docker compose up -d", CLOUD, fails=True)
    assert f"open {secret}: permission denied" in refused.stderr
    found = re.search(r"`sudo (chown -R [^`]*secrets)`", (ROOT / TROUBLESHOOTING).read_text())
    assert found
    given = found[1].replace("$(id -u):$(id -g)", f"{edge.name}:")
    subprocess.run(["bash", "-c", given], cwd=edge.home / CLOUD, check=True)
    edge.types("docker compose up -d --wait", CLOUD)


@pytest.mark.parametrize(
    ("uid", "words"), [("0", "containers are not to run as root"), ("4321", "and containers run as 4321:")]
)
def test_certificates_are_not_made_as_another_user(edge: DockerUser, uid: str, words: str) -> None:
    before = (edge.home / CLOUD / "secrets/ca.key").read_bytes()
    refused = edge.types(f"FACEFERRY_UID={uid} docker compose run --rm pki device yard", CLOUD, fails=True)
    assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
    assert (edge.home / CLOUD / "secrets/ca.key").read_bytes() == before


def test_folders_that_are_not_there_are_named_and_not_made(edge: DockerUser) -> None:
    for folder, name, typed in (
        (CLOUD, "FACEFERRY_SECRETS", "docker compose run --rm pki list"),
        (EDGE, "FACEFERRY_RECORDINGS", "docker compose up -d"),
    ):
        missing = edge.home / "not-there"
        refused = edge.types(f"{name}={missing} {typed}", folder, fails=True)
        assert f"bind source path does not exist: {missing}" in refused.stderr
        assert refused.returncode == 1
        assert not missing.exists()


def waiting(edge: DockerUser) -> int:
    """How many faces forward holds."""
    told = edge.types("docker compose exec forward faceferry spool --json", EDGE).stdout
    return int(json.loads(told)["faces"])


def blocks_of(containing: str) -> list[Block]:
    found = [
        one for one in blocks(OPERATIONS, heading="Where the data is, and back-up") if containing in one.text
    ]
    assert len(found) == 2
    return found
