"""An environment of its own with Home Assistant, which wants a newer Python than this project.

`python -m tests.home.environment` makes it in the user's cache; FACEFERRY_TEST_HOME_ASSISTANT names another's
Python.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_LOCK = Path(__file__).parents[2] / "requirements" / "home-assistant.txt"
"""The last release for Python 3.13. It asks for 3.13.2, but its core and its MQTT run on any 3.13."""
_WANTED = (3, 13)


def _place() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceferry-tests"
    return cache / f"home-assistant-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]}"


def find_python() -> str | None:
    """Return the Python that has it, if there is one."""
    if named := os.environ.get("FACEFERRY_TEST_HOME_ASSISTANT"):
        return named
    python = _place() / "bin" / "python"
    return str(python) if python.exists() else None


def make() -> str | None:
    """Make the environment, if there is none yet; return why that cannot be done."""
    if find_python() is not None:
        return None
    python = next((each for each in _candidates() if _is_new_enough(each)), None)
    if python is None:
        return "Home Assistant wants Python 3.13, and there is none"
    shutil.rmtree(_place().with_name(f"{_place().name}.new"), ignore_errors=True)
    fresh = _place().with_name(f"{_place().name}.new")
    subprocess.run([python, "-m", "venv", fresh], check=True)
    pip = (fresh / "bin" / "python", "-m", "pip", "install", "--quiet", "--ignore-requires-python")
    wanted = ("--no-deps", "--require-hashes", "-r", _LOCK)
    if subprocess.run([*pip, *wanted], check=False).returncode != 0:
        return "Home Assistant could not be installed"
    fresh.rename(_place())
    return None


def _candidates() -> list[str]:
    found = [shutil.which("python3.13")]
    found += [str(each) for each in Path.home().glob(".pyenv/versions/3.13.*/bin/python3")]
    return [each for each in found if each is not None]


def _is_new_enough(python: str) -> bool:
    asked = f"import sys; sys.exit(sys.version_info[:2] != {_WANTED})"
    return subprocess.run([python, "-c", asked], check=False, stderr=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    sys.exit(make())
