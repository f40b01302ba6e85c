"""Programs that tests build with Go, once for each version of their sources, and keep in the user's cache."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class GoProgram:
    """A program that is built from a folder.

    Args:
        name: of the file in the cache, with a digest of the sources behind it.
        folder: with its sources, where it is built.
        sources: files in the folder that say what it is.
        build: what `go build` is told.
        environment: variables for the build.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        sources: Sequence[str],
        build: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        digest = hashlib.sha256()
        for source in sources:
            digest.update((folder / source).read_bytes())
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceferry-tests"
        self.path = cache / f"{name}-{digest.hexdigest()[:16]}"
        self._folder = folder
        self._build = build
        self._environment = {**os.environ, **(environment or {})}

    def build(self, timeout_s: float | None = None) -> str | None:
        """Build it, if that has not been done; return why that cannot be done."""
        go = shutil.which(
            "go", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/go/bin"])
        )
        if self.path.exists():
            return None
        if go is None:
            return "it is built with Go, which is not installed"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}")
        command = [go, "build", *self._build[:-1], "-o", str(fresh), self._build[-1]]
        try:
            built = subprocess.run(
                command,
                cwd=self._folder,
                env=self._environment,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return "its build takes too long"
        if built.returncode != 0:
            return f"it could not be built: {built.stderr.strip()[-200:]}"
        fresh.rename(self.path)
        return None
