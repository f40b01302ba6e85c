"""Somebody in the group `docker`, who is not root and has no sudo, and types what our documents say."""

import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.containers.engine import IMAGES, SERVICES, docker, models_image, start_engine
from tests.newcomer.documents import ROOT, Block, block

INSTALL, OPERATIONS = "docs/install.md", "docs/operations.md"
TROUBLESHOOTING = "docs/troubleshooting.md"


@dataclass(frozen=True)
class DockerUser:
    """A user of this machine.

    Attributes:
        name: what it is called.
        home: its folder.
        knows: environment variables: what this machine lacks and others have, an index of packages and a
            model's address; and other names for images than those of a Faceferry that runs here in earnest.
    """

    name: str
    home: Path
    knows: dict[str, str]

    def types(
        self, typed: Block | str, folder: str = ".", *, fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Type commands as they stand, in a folder below home, up to the first that fails.

        Returns:
            The process that has run them, with what it said.

        Raises:
            AssertionError: it failed, or did not although that was expected.
        """
        lines = typed if isinstance(typed, str) else typed.text
        project = f"{self.name}-{'edge' if folder.startswith('device') else 'cloud'}"
        knows = self.knows | {"COMPOSE_PROJECT_NAME": project}
        known = [f"export {name}={shlex.quote(value)}" for name, value in knows.items()]
        script = "\n".join(["set -eu -o pipefail", *known, f"cd ~/{folder}", lines])
        done = subprocess.run(
            ["su", "-s", "/bin/bash", "-", self.name, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=1500,
        )
        told = f"{lines}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        assert (done.returncode != 0) == fails, told
        return done

    def sets(self, folder: str, **settings: str) -> None:
        """Write settings into a folder's `.env` with an editor, each in the place of the line that has it."""
        path = self.home / folder / ".env"
        lines = path.read_text().splitlines()
        for name, value in settings.items():
            lines = [line for line in lines if line.removeprefix("#").partition("=")[0] != name]
            lines.append(f"{name}={value}")
        path.write_text("".join(f"{line}\n" for line in lines))

    def owns(self, path: Path) -> None:
        """Give it a file or a folder."""
        subprocess.run(["chown", "-R", f"{self.name}:", path], check=True)


@contextmanager
def docker_user() -> Iterator[DockerUser]:
    """Make a user as the documents say; its folder and whatever it has started go with it."""
    start_engine()
    name = f"carrier{uuid.uuid4().hex[:6]}"
    made = block(INSTALL, "useradd").exchanged(("carrier", name)).commands()
    assert made[1:] == [f"su - {name}"]
    subprocess.run(["bash", "-c", made[0]], check=True)
    try:
        yield DockerUser(name, Path(f"/home/{name}"), _knows(name))
    finally:
        for service in SERVICES:
            docker("image", "rm", f"{IMAGES}/{service}:{name}", is_checked=False)
        subprocess.run(["userdel", "--remove", "--force", name], check=True, capture_output=True)


def sources(user: DockerUser) -> Path:
    """Return a repository with the sources as they are here, to clone."""
    path = user.home / "sources"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    user.owns(path)
    user.types(
        "git init -q && git add -A && git -c user.name=- -c user.email=- commit -q -m sources", "sources"
    )
    return path


def _knows(version: str) -> dict[str, str]:
    knows = {
        name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if name in os.environ
    }
    # Built anew, for an image that is there already may be of other sources.
    images = {"FACEFERRY_IMAGES": IMAGES, "FACEFERRY_VERSION": version}
    return knows | images | {"FACEFERRY_MODELS_IMAGE": models_image()}
