import subprocess

import pytest

from tests.camera.inside.pictures import Pictures, make
from tests.camera.machine import UDEV


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Load the drivers, and start what names devices."""
    for package in UDEV.glob("udev_*.deb"):
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True)
        # `/lib` is a link.
        words = ["tar", "-x", "--keep-directory-symlink", "-C", "/"]
        subprocess.run(words, input=unpacked.stdout, check=True)
    for module in ("vhci-hcd", "uvcvideo"):
        # The tool's own modprobe: the modules' index that another would read is not there.
        subprocess.run(["/run/bin/busybox", "modprobe", module], check=True)
    subprocess.run(["/lib/systemd/systemd-udevd", "--daemon"], check=True)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """What cameras show."""
    return make(tmp_path_factory.mktemp("pictures"))
