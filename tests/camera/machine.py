"""A small virtual machine with Debian's kernel, its camera drivers, and udev; no hardware help is needed."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import skip
from tests.guests import CACHE, ROOT, Outcomes, lacks, run
from tests.support import SHARED

INSIDE = Path(__file__).parent / "inside"
TOOL = SHARED / "camera-vm"
UDEV = CACHE / "udev"

_NEEDED = ("qemu-system-x86_64", "busybox", "apt-get", "cpio")
_FOLDER = CACHE / "camera-vm"
_TIMEOUT_S = 1200.0


def run_tests(share: Path) -> Outcomes:
    """Run the tests of `inside` in the machine; skip where it cannot be had."""
    if not TOOL.is_dir():
        skip("the tool that makes a machine with cameras is not on this machine")
    if why := lacks(*_NEEDED):
        skip(f"no machine with cameras: {why} (qemu-system-x86, busybox-static, cpio)")
    _prepare()
    report = share / "outcomes.xml"
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-o", "timeout=600", "-v"]
    words = [*command, "--junit-xml=/run/share/outcomes.xml", str(INSIDE.relative_to(ROOT))]
    status = run([TOOL / "guest", _FOLDER], words, share, settings={}, timeout_s=_TIMEOUT_S)
    return Outcomes(report, status)


def _prepare() -> None:
    """Fetch the kernel, and udev, which gives cameras names that last and is unpacked in the machine."""
    subprocess.run([TOOL / "prepare", _FOLDER], check=True, timeout=600)
    UDEV.mkdir(parents=True, exist_ok=True)
    if not list(UDEV.glob("udev_*.deb")):
        subprocess.run(["apt-get", "download", "-qq", "udev"], cwd=UDEV, check=True, timeout=300)
