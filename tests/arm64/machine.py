"""A virtual machine with an arm64 processor and Debian; no hardware help is needed, only patience."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.detect.models import ModelUnavailable, locate
from tests.conftest import skip
from tests.guests import CACHE, ROOT, Outcomes, lacks, pack, run
from tests.support import SHARED

TOOL = SHARED / "arm64-vm"
CLIP = "face-demographics-walking-and-pause.mp4"
TESTS_S = 5400.0
"""So long may tests take there; those that are not reached by then were not run."""
TESTS = (
    "detect_detectors",
    "detect_decoder",
    "detect_masks",
    "store_folder",
    "store_objects",
    "forward_spool",
    "capture_children",
    "modes",
    "health",
    "index",
)
"""Contract tests about what differs between processors: libraries with machine code, the kernel's own calls,
files. What is about brokers, clocks and messages is the same Python everywhere, and takes hours here.
"""

_NEEDED = ("qemu-system-aarch64", "apt-get", "cpio", "mke2fs", "depmod", "xz")
_S3_SERVER = "github.com/versity/versitygw/cmd/versitygw@v1.7.0"
_FOLDER = CACHE / "arm64-vm"


LEFT_OUT = {
    "test_capture_children.test_what_is_not_worth_reading_stays_in_the_pipe_for_a_while_and_is_not_lost": (
        "it counts pictures that come within 2 ms of one another, of a program that makes 50 in a second"
    ),
}
"""Those of them that hold a figure of time against a real processor, and what it is."""
CASES_LEFT_OUT = ("book.mkv", "classroom.mp4", "empty-room.mp4", "female-and-male.mp4")
"""Parts of the names of cases whose like is run: of five clips one, for each takes minutes there."""


@dataclass(frozen=True)
class Visit:
    """What the machine left behind.

    Attributes:
        status: of the command that it ran.
        share: the folder with what that wrote.
    """

    status: int
    share: Path


def chosen_files() -> list[Path]:
    """Return the files of the tests that run in the machine."""
    return [ROOT / "tests/contract" / f"test_{name}.py" for name in TESTS]


def visit_up(share: Path) -> Visit:
    """Have a clone of the project install itself in the machine, and store the faces of `CLIP`."""
    prepare()
    pack(share / "project.tar")
    wheels = _FOLDER / "wheels"
    given = (wheels, SHARED / "data/video" / CLIP, SHARED / "models")
    return _visit(share, ["tests/arm64/inside_up.sh", *map(str, given)], [SHARED, wheels])


def visit_tests(share: Path) -> Outcomes:
    """Have the chosen tests run in the machine; return what became of them."""
    prepare()
    _put_s3_server(share / "s3-server")
    _put_models(share / "models")
    tests = [str(path.relative_to(ROOT)) for path in chosen_files()]
    command = ["tests/arm64/inside_tests.sh", f"{TESTS_S:.0f}", *tests]
    command += ["-k", " and ".join(f"not {name}" for name in CASES_LEFT_OUT)]
    for claim in LEFT_OUT:
        module, _, name = claim.partition(".")
        command += ["--deselect", f"tests/contract/{module}.py::{name}"]
    return Outcomes(share / "outcomes.xml", _visit(share, command, [SHARED]).status)


def _visit(share: Path, command: Sequence[str], folders: Sequence[Path]) -> Visit:
    """Start the machine for one command; `FACEFERRY_TEST_ARM64_CPU` names its processor, as QEMU does."""
    settings = {
        "GUEST_CPU": os.environ.get("FACEFERRY_TEST_ARM64_CPU", "cortex-a72"),
        "GUEST_FOLDERS": ":".join(map(str, folders)),
    }
    guest = [TOOL / "guest", _FOLDER]
    status = run(guest, ["bash", *command], share, settings=settings, timeout_s=TESTS_S + 600)
    return Visit(status, share)


def prepare() -> None:
    """Make the machine's disks, and again when the packages that we pin have changed.

    Where there can be no machine, the test is skipped.
    """
    if not TOOL.is_dir():
        skip("the tool that makes an arm64 machine is not on this machine")
    if why := lacks(*_NEEDED):
        skip(f"no arm64 machine: {why} (qemu-system-arm, cpio, kmod, xz-utils)")
    lock = ROOT / "requirements/dev.txt"
    stamp, state = _FOLDER / "lock", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (_FOLDER / "disk").exists():
        environment = {**os.environ, "PREPARE_PACKAGES": "ffmpeg openssl"}
        subprocess.run([TOOL / "prepare", _FOLDER, "bookworm"], check=True, timeout=3600, env=environment)
    if not stamp.exists() or stamp.read_text() != state:
        subprocess.run([TOOL / "packages", _FOLDER, lock], check=True, timeout=3600, cwd=ROOT)
        stamp.write_text(state)


def _put_models(folder: Path) -> None:
    """Copy the models that this machine has or can get to a folder: the other one can get none."""
    models = [*(SHARED / "models").iterdir()]
    with contextlib.suppress(ModelUnavailable):  # the tests that want it are skipped there, and say so
        models.append(locate("centerface", SHARED / "models")[1])
    folder.mkdir()
    for model in models:
        shutil.copy(model, folder)


def _put_s3_server(path: Path) -> None:
    """Build an S3 server for arm64, if there is Go; without it the tests that want one are skipped."""
    folder = CACHE / "arm64-go"
    program = folder / "bin/linux_arm64/versitygw"
    if not program.exists():
        if (go := shutil.which("go")) is None:
            return
        modules = subprocess.check_output([go, "env", "GOMODCACHE"], text=True).strip()
        ours = {"GOARCH": "arm64", "CGO_ENABLED": "0", "GOPATH": str(folder), "GOMODCACHE": modules}
        environment = {name: value for name, value in os.environ.items() if name != "GOBIN"} | ours
        subprocess.run([go, "install", _S3_SERVER], check=True, timeout=3600, env=environment)
    shutil.copy(program, path)
