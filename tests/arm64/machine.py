"""A virtual machine with an arm64 processor and Debian; no hardware help is needed, only patience."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import skip
from tests.guests import CACHE, ROOT, Outcomes, lacks, pack, run
from tests.support import SHARED

TOOL = SHARED / "arm64-vm"
CLIP = "face-demographics-walking-and-pause.mp4"
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
_FOLDER = CACHE / "arm64-vm"
_TIMEOUT_S = 7200.0


@dataclass(frozen=True)
class Visit:
    """What the machine left behind.

    Attributes:
        outcomes: of the tests.
        share: with what `inside.sh` wrote.
    """

    outcomes: Outcomes
    share: Path


def chosen_files() -> list[Path]:
    """Return the files of the tests that run in the machine."""
    return [ROOT / "tests/contract" / f"test_{name}.py" for name in TESTS]


def visit(share: Path) -> Visit:
    """Start the machine, do there what `inside.sh` says; skip where it cannot be had.

    `FACEFERRY_TEST_ARM64_CPU` names the processor, as QEMU does; a Raspberry Pi 4's by default.
    """
    if not TOOL.is_dir():
        skip("the tool that makes an arm64 machine is not on this machine")
    if why := lacks(*_NEEDED):
        skip(f"no arm64 machine: {why} (qemu-system-arm, cpio, kmod, xz-utils)")
    prepare()
    pack(share / "project.tar")
    settings = {
        "GUEST_CPU": os.environ.get("FACEFERRY_TEST_ARM64_CPU", "cortex-a72"),
        "GUEST_FOLDERS": f"{SHARED}:{_FOLDER / 'wheels'}",
    }
    folders = (_FOLDER / "wheels", SHARED / "data/video", SHARED / "models")
    tests = [str(path.relative_to(ROOT)) for path in chosen_files()]
    command = ["bash", "tests/arm64/inside.sh", *map(str, folders), *tests]
    status = run([TOOL / "guest", _FOLDER], command, share, settings=settings, timeout_s=_TIMEOUT_S)
    return Visit(Outcomes(share / "outcomes.xml", status), share)


def prepare() -> None:
    """Make the machine's disks, and again when the packages that we pin have changed."""
    lock = ROOT / "requirements/dev.txt"
    stamp, state = _FOLDER / "lock", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (_FOLDER / "disk").exists():
        environment = {**os.environ, "PREPARE_PACKAGES": "ffmpeg openssl"}
        subprocess.run([TOOL / "prepare", _FOLDER, "bookworm"], check=True, timeout=3600, env=environment)
    if not stamp.exists() or stamp.read_text() != state:
        subprocess.run([TOOL / "packages", _FOLDER, lock], check=True, timeout=3600, cwd=ROOT)
        stamp.write_text(state)
