"""Helm as it is, built from the versions in this folder's go.mod where none is installed.

`python -m tests.chart.helm` builds it, which takes minutes, and keeps it in the user's cache.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import skip
from tests.go_program import GoProgram

CHART = Path(__file__).parents[2] / "deploy" / "chart"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
KUBERNETES = "1.36.0"
"""What charts are rendered for; a Helm that was built from its sources knows no version."""

_PROGRAM = GoProgram("helm", Path(__file__).parent, ("go.mod", "go.sum"), ["helm.sh/helm/v3/cmd/helm"])


def find_helm() -> str | None:
    """Return the program's path, if it is on PATH or was built."""
    return shutil.which("helm") or (str(_PROGRAM.path) if _PROGRAM.path.exists() else None)


def build() -> str | None:
    """Build the program, if there is none yet; return why that cannot be done."""
    why = None if find_helm() else _PROGRAM.build()
    return why and f"no Helm: {why}"


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it, whatever comes of it."""
    found = find_helm()
    if found is None:
        skip("no Helm on PATH: `python -m tests.chart.helm` builds one, with Go")
    assert found is not None
    return subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def render(*values: str | Path, sets: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the objects that the chart makes of files with values, and of single ones."""
    done = helm(*_template(values, sets))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(*values: str | Path, sets: dict[str, str] | None = None) -> str:
    """Return what Helm says of values that the chart does not take."""
    done = helm(*_template(values, sets))
    assert done.returncode != 0
    return done.stderr


def _template(values: tuple[str | Path, ...], sets: dict[str, str] | None) -> list[str | Path]:
    files = [part for path in values for part in ("-f", path)]
    single = [part for name, value in (sets or {}).items() for part in ("--set", f"{name}={value}")]
    named = ("template", "faces", CHART, "--namespace", "here", "--kube-version", KUBERNETES)
    return [*named, *files, *single]


if __name__ == "__main__":
    sys.exit(build())
