"""What tests want of npm, installed once for each lock file, and kept in the user's cache."""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from tests.conftest import skip

_TIMEOUT_S = 100.0


def modules(folder: Path) -> Path:
    """Return where the packages of a folder's lock file are; install them if that has not been done."""
    npm, lock = shutil.which("npm"), folder / "package-lock.json"
    if npm is None or shutil.which("node") is None:
        skip("no Node, or no npm: Debian has them in the packages nodejs and npm")
    assert npm is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceferry-tests"
    place = cache / f"node-{sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not place.exists():
        fresh = place.with_suffix(f".{os.getpid()}")
        fresh.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, fresh)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=fresh, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            skip("npm takes too long to install what the examples need")
        if done.returncode != 0:
            skip(f"npm cannot install what the examples need: {done.stderr.strip()[-200:]}")
        _place(fresh, place)
    return place / "node_modules"


def _place(fresh: Path, place: Path) -> None:
    try:
        fresh.rename(place)
    except OSError:  # another process was first
        shutil.rmtree(fresh)
