import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, running_browser
from tests.conftest import skip
from tests.support import MosquittoServer

ROOT = Path(__file__).parents[2]
AXE = "axe-core@4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            skip(f"no {program}: Debian has it in the package chromium-driver")
    with running_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def desktop(browser: Browser) -> Browser:
    """The browser as a light, wide screen that knows nobody."""
    browser.look()
    browser.forget()
    browser.open("about:blank")
    browser.console()
    return browser


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where screenshots are kept."""
    return Path(os.environ.get("FACEFERRY_TEST_ARTEFACTS", ROOT / "build" / "screenshots"))


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which finds what people with disabilities would stumble over."""
    if named := os.environ.get("FACEFERRY_TEST_AXE"):
        return Path(named).read_text()
    folder = ROOT / "build" / "axe"
    path = folder / "package" / "axe.min.js"
    if not path.exists():
        _fetch_axe(folder)
    source = path.read_bytes()
    assert hashlib.sha256(source).hexdigest() == AXE_SHA256, f"{path} is not that of {AXE}"
    return source.decode()


def _fetch_axe(folder: Path) -> None:
    if shutil.which("npm") is None:
        skip(f"no npm to fetch {AXE} with; name an axe.min.js in FACEFERRY_TEST_AXE")
    folder.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        ["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    if packed.returncode != 0:
        skip(f"npm could not fetch {AXE}: {packed.stderr.strip()[-200:]}")
    subprocess.run(["tar", "xzf", packed.stdout.split()[-1], "package/axe.min.js"], cwd=folder, check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gallery")


@pytest.fixture(scope="module")
def cloud(folder: Path) -> Iterator[MosquittoServer]:
    server = MosquittoServer(folder).start()
    yield server
    server.kill()
