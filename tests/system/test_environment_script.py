"""`scripts/environment` makes the virtual environment, and again when it is broken; real venv and pip."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A project in small: its build is its own, for there is nowhere to get another from.
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import base64, hashlib, pathlib, zipfile

FILES = {
    "faceferry.pth": f"{pathlib.Path(__file__).parent}\\n",
    "faceferry-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: faceferry\\nVersion: 1\\n",
    "faceferry-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "faceferry-1.dist-info/entry_points.txt": "[console_scripts]\\nfaceferry = program:main\\n",
}

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "faceferry-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        record = ""
        for path, text in FILES.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(text)}\\n"
            wheel.writestr(path, text)
        wheel.writestr("faceferry-1.dist-info/RECORD", record + "faceferry-1.dist-info/RECORD,,\\n")
    return name
"""
PROGRAM = """
def main():
    import pathlib, sys
    print("runs in", pathlib.Path(__file__).parent)
    return 0
"""

INSTALLING = "installing 0 Python packages into .venv"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def lines(said: str) -> list[str]:
    """Return what was said, but for what tells that something takes its time."""
    return [line for line in said.splitlines() if "WARNING" not in line and not line.startswith("  ")]


class Clone:
    """A clone of the project in small, with the project's own scripts."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def make(self) -> "Clone":
        """Put there what a clone holds."""
        place = self.place
        shutil.copytree(ROOT / "scripts", place / "scripts")
        (place / "requirements").mkdir()
        (place / "requirements" / "up.txt").write_text("# nothing\n")
        for name, text in {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "program.py": PROGRAM}.items():
            (place / name).write_text(text)
        return self

    @property
    def venv(self) -> Path:
        return self.place / ".venv"

    def problem(self) -> str:
        """Return what the script finds wrong with the environment."""
        script = "source scripts/environment; venv_problem"
        return subprocess.check_output(["bash", "-c", script], cwd=self.place, text=True).strip()

    def up(self, **variables: str) -> tuple[int, str, list[str]]:
        """Run `scripts/up`; return its status, what it printed, and the lines it said beside."""
        done = subprocess.run(
            [self.place / "scripts" / "up"],
            env={"PATH": PATH, "HOME": str(self.place), "FACEFERRY_PYTHON": sys.executable,
                 "PIP_NO_INDEX": "1", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )  # fmt: skip
        return done.returncode, done.stdout.strip(), lines(done.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = Clone(tmp_path_factory.mktemp("made") / "a clone").make()
    assert clone.up() == (0, f"runs in {clone.place}", [INSTALLING])
    return clone


@pytest.fixture
def clone(made: Clone, tmp_path: Path) -> Iterator[Clone]:
    """A clone whose environment is fine, at the place where it was made."""
    shutil.copytree(made.place, tmp_path / "kept", symlinks=True)
    yield made
    shutil.rmtree(made.place, ignore_errors=True)
    shutil.copytree(tmp_path / "kept", made.place, symlinks=True)


def site_packages(venv: Path) -> Path:
    (found,) = venv.glob("lib/python3.*/site-packages")
    return found


def dangle(venv: Path) -> None:
    for python in (venv / "bin").glob("python*"):
        python.unlink()
        python.symlink_to("/usr/bin/python3.1")


def exchange_python(venv: Path) -> None:
    """Python was upgraded: it is there, and looks for its packages elsewhere."""
    packages = site_packages(venv)
    packages.parent.rename(packages.parent.with_name("python3.1"))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "python is gone": (dangle, "its Python is gone or too old"),
    "python is another": (exchange_python, "it was left half made, or is of another Python"),
    "no pip": (
        lambda venv: shutil.rmtree(site_packages(venv) / "pip"),
        "it was left half made, or is of another Python",
    ),
    "no pyvenv.cfg": (lambda venv: (venv / "pyvenv.cfg").unlink(), "its Python is gone or too old"),
    "only pyvenv.cfg": (lambda venv: shutil.rmtree(venv / "bin"), "its Python is gone or too old"),
    "no programs": (lambda venv: (venv / "bin" / "pip").unlink(), "it was made in another place"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_wrong_with_an_environment_is_found(clone: Clone, how: str) -> None:
    damage, why = BROKEN[how]
    assert clone.problem() == ""
    damage(clone.venv)
    assert clone.problem() == why


def test_a_broken_environment_is_made_anew_and_that_is_said_in_one_line(clone: Clone) -> None:
    damage, why = BROKEN["python is gone"]
    damage(clone.venv)
    assert clone.up() == (
        0,
        f"runs in {clone.place}",
        [f"making .venv anew: {why}", INSTALLING],
    )
    assert clone.up() == (0, f"runs in {clone.place}", [])


def test_a_clone_that_was_moved_makes_its_environment_anew(clone: Clone, tmp_path: Path) -> None:
    moved = Clone(clone.place.rename(tmp_path / "moved"))
    assert moved.up() == (
        0,
        f"runs in {moved.place}",
        ["making .venv anew: it was made in another place", INSTALLING],
    )


def test_a_copy_does_not_run_the_program_of_the_clone_that_it_was_made_of(
    clone: Clone, tmp_path: Path
) -> None:
    copy = Clone(Path(shutil.copytree(clone.place, tmp_path / "copy", symlinks=True)))
    assert copy.problem() == "it was made in another place"


def test_an_interrupted_installation_is_taken_up_again(clone: Clone) -> None:
    (clone.venv / ".faceferry-up").unlink()
    (clone.venv / "bin" / "faceferry").unlink()
    assert clone.up() == (0, f"runs in {clone.place}", [INSTALLING])


def test_a_folder_that_is_no_environment_is_not_emptied(clone: Clone, tmp_path: Path) -> None:
    keepsake = tmp_path / "home" / "keepsake"
    keepsake.parent.mkdir()
    keepsake.write_text("mine")
    status, _, said = clone.up(FACEFERRY_VENV=str(keepsake.parent))
    assert status == 2
    assert said == [f"FACEFERRY_VENV: {keepsake.parent} is no virtual environment, and not empty"]
    assert keepsake.read_text() == "mine"


def test_two_at_once_do_not_take_each_other_s_for_half_made(clone: Clone) -> None:
    shutil.rmtree(clone.venv)
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: clone.up(), range(2)))
    assert sorted(said for _, _, said in both) == [[], [INSTALLING]]
    assert {status for status, _, _ in both} == {0}


def test_an_environment_that_is_fine_is_left_alone(clone: Clone) -> None:
    assert clone.up() == (0, f"runs in {clone.place}", [])


def test_nor_is_one_made_anew_that_is_reached_by_another_name(clone: Clone, tmp_path: Path) -> None:
    alias = Clone(tmp_path / "link")
    alias.place.symlink_to(clone.place)
    assert alias.up() == (0, f"runs in {clone.place}", [])
