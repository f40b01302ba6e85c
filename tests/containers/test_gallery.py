"""The gallery beside a store of its own, as its users run it."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from services.up.brokers import free_port
from tests.containers.engine import ROOT, Project, ask, docker, until
from tests.containers.site import Site

pytestmark = [pytest.mark.timeout(200), pytest.mark.usefixtures("images")]

TOKEN = "what-one-has-to-know"  # noqa: S105 - of no door
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
READINESS = (
    "import urllib.request as u, urllib.error as e\n"
    "try: print(u.urlopen('http://127.0.0.1:8080/readyz').read().decode())\n"
    "except e.HTTPError as answer: print(answer.read().decode())"
)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module", params=["certificates", "passwords"])
def cloud(
    request: pytest.FixtureRequest, site: Site, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The cloud's side with the gallery, running, and with the gallery made before the store."""
    (site.cloud / "gallery-token").write_text(TOKEN + "\n")
    files = [ROOT / "compose/cloud/compose.yaml"]
    if request.param == "passwords":
        site.write_passwords({"porch": "over", "_store": "under", "_gallery": "beside"})
        files.append(ROOT / "compose/cloud/passwords.yaml")
    settings = site.cloud_settings() | {
        "COMPOSE_PROFILES": "selfhost,gallery",
        "FACEFERRY_GALLERY_PORT": str(port),
    }
    with Project(files, settings, tmp_path_factory.mktemp("gallery")) as project:
        project.up("gallery")
        project.up()
        yield project


def readiness(cloud: Project) -> dict[str, str]:
    told = docker("exec", cloud.containers("gallery")[0]["Id"], "python3", "-c", READINESS)
    checks: dict[str, str] = json.loads(told)["checks"]
    return checks


def test_without_the_token_nothing_is_shown(cloud: Project, port: int) -> None:
    assert cloud.containers("gallery")
    for path in ("/", "/devices", "/events", "/image/porch/front/2026-11-22/x.jpg"):
        assert ask(port, path, {})[0] == HTTPStatus.UNAUTHORIZED
        assert ask(port, path, {"Authorization": "Bearer wrong"})[0] == HTTPStatus.UNAUTHORIZED


def test_with_it_the_page_is_there_and_reaches_broker_and_bucket(cloud: Project, port: int) -> None:
    status, page = ask(port, "/", WITH_TOKEN)
    assert (status, b"<main" in page) == (HTTPStatus.OK, True)
    until(lambda: set(readiness(cloud).values()) == {"ok"}, 30, lambda: str(readiness(cloud)))


def test_it_is_confined_and_cannot_write_to_the_faces(cloud: Project) -> None:
    one = cloud.containers("gallery")[0]
    assert one["Config"]["User"] == "10001:10001"
    assert one["HostConfig"]["ReadonlyRootfs"]
    assert one["HostConfig"]["CapDrop"] == ["ALL"]
    assert one["HostConfig"]["Memory"] > 0
    assert one["State"]["Health"]["Status"] == "healthy"
    faces = [mount for mount in one["Mounts"] if mount["Destination"] == "/var/lib/faceferry"]
    assert [mount["RW"] for mount in faces] == [False]


def test_who_makes_the_volume_first_does_not_matter_to_the_store(cloud: Project) -> None:
    store = cloud.containers("store")[0]["Id"]
    assert docker("exec", store, "stat", "-c", "%a", "/var/lib/faceferry").strip() == "777"


def test_a_folder_is_shown_as_well(cloud: Project, port: int) -> None:
    cloud.configure(FACEFERRY_STORE_URL="file:///var/lib/faceferry/folder")
    cloud.up("store", "gallery")
    assert ask(port, "/", WITH_TOKEN)[0] == HTTPStatus.OK
    until(lambda: set(readiness(cloud).values()) == {"ok"}, 30, lambda: str(readiness(cloud)))
