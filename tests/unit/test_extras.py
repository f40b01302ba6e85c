"""What the command says where its packages are not installed, as after `pip install '.[pki]'`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.cli import COMMANDS, EXTRAS, SERVICES

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys

missing = sys.argv[1].split(",")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from services.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["faces", "--store", "s3://faces"], "obstore", "store"),
        (["copy", "s3://faces", "elsewhere"], "obstore", "store"),
        (["gallery"], "jinja2", "gallery"),
        (["detect"], "cv2", "detect"),
        (["pki", "list"], "cryptography", "pki"),
        (["up", "--source", "test://"], "imageio_ffmpeg", "all"),
    ],
)
def test_the_extra_that_is_missing_is_named(
    arguments: list[str], package: str, extra: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true"},
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr == (
        f"faceferry: {arguments[0]} needs {package}, which is not installed: it comes with the extra "
        f"{extra!r}, as in pip install '.[{extra}]' in the project's folder\n"
    )


def test_every_command_knows_the_extra_that_it_needs() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert EXTRAS.keys() == COMMANDS.keys() | SERVICES.keys()
    assert set(EXTRAS.values()) <= known.keys()
