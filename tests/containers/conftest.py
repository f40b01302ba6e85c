from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import ROOT, Project, build_images, start_engine
from tests.containers.site import Site


@pytest.fixture(scope="session")
def engine() -> None:
    """A container engine, with the public images or their stand-ins."""
    start_engine()


@pytest.fixture(scope="session")
def images(engine: None) -> None:  # noqa: ARG001 - wanted for what it does
    """Our own images."""
    build_images()


@pytest.fixture(scope="module")
def site(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Site:  # noqa: ARG001
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def cloud(
    images: None,  # noqa: ARG001
    site: Site,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Project]:
    """The cloud's side with an S3 server of its own, running."""
    files = [ROOT / "compose/cloud/compose.yaml"]
    with Project(files, site.cloud_settings(), tmp_path_factory.mktemp("cloud")) as project:
        project.up()
        yield project


@pytest.fixture(scope="module")
def edge(
    images: None,  # noqa: ARG001
    site: Site,
    clips: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Project]:
    """A device, not yet started."""
    files = [ROOT / "compose/edge/compose.yaml"]
    with Project(files, site.edge_settings(clips), tmp_path_factory.mktemp("edge")) as project:
        yield project
