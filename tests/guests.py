"""Machines and systems apart from this one, in which some of our tests run."""

import ast
import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceferry-tests"


def lacks(*programs: str) -> str | None:
    """Return which of the programs that make and run a machine are not installed."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = [name for name in programs if not any((Path(at) / name).exists() for at in folders.split(":"))]
    return f"not installed: {', '.join(missing)}" if missing else None


def claims(*paths: Path) -> list[str]:
    """Return the names of the tests in files, without importing them: `test_usb.test_name`."""
    return [f"{path.stem}.{name}" for path in paths for name in _tests(path)]


def pack(path: Path) -> None:
    """Write a tar of what a clone of the project would hold, as it is now."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.check_output(listing, cwd=ROOT, text=True)
    with tarfile.open(path, "w") as archive:
        for name in listed.split("\0"):
            if name and (ROOT / name).exists():
                archive.add(ROOT / name, name)


def _tests(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def run(
    guest: Sequence[str | Path],
    command: Sequence[str],
    share: Path,
    *,
    settings: Mapping[str, str],
    timeout_s: float,
) -> int:
    """Run a command in a machine, in the project's folder; what it prints comes out here as well.

    Args:
        guest: the tool's words before the command.
        command: run as root.
        share: a folder that the machine sees as `/run/share`, and can write.
        settings: the tool's own, `GUEST_...`.
        timeout_s: after which the machine is switched off.

    Returns:
        the command's exit status; the tool's own where the machine did not come that far.
    """
    environment = {
        **os.environ,
        "GUEST_SHARE": str(share),
        "GUEST_TIMEOUT_S": f"{timeout_s:.0f}",
        **settings,
    }
    done = subprocess.run(
        [*guest, *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    return done.returncode


class Outcomes:
    """What became of the tests in a machine, by pytest's own report.

    Args:
        report: the file that `--junit-xml` names.
        status: the machine's exit status.
    """

    def __init__(self, report: Path, status: int) -> None:
        self._status = status
        cases = ET.parse(report).iter("testcase") if report.exists() else ()  # noqa: S314 - our own
        self._cases: dict[str, list[ET.Element]] = defaultdict(list)
        for case in cases:
            self._cases[_claim(case)].append(case)

    def check(self, claim: str) -> None:
        """Fail with a test's words if it failed or was not run, whatever its parameters; skip as it did."""
        assert self._cases[claim], f"it was not run; the machine ended with status {self._status}"
        troubles = [(case, child) for case in self._cases[claim] for child in case if child.tag in _TROUBLES]
        failed = "\n".join(_told(*trouble) for trouble in troubles if trouble[1].tag != "skipped")
        assert not failed, failed
        if troubles:
            pytest.skip(_told(*troubles[0]))


_TROUBLES = ("failure", "error", "skipped")


def _claim(case: ET.Element) -> str:
    """Return a test's name without its parameters."""
    name = case.get("name", "").partition("[")[0]
    return f"{case.get('classname', '').rpartition('.')[2]}.{name}"


def _told(case: ET.Element, trouble: ET.Element) -> str:
    return f"{case.get('name')}: {trouble.get('message')}\n{trouble.text or ''}"
