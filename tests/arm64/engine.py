"""Our images for arm64, built on this machine: an emulator runs their programs, one by one."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conftest import skip
from tests.containers.engine import IMAGES, ROOT, SERVICES, docker
from tests.guests import CACHE, lacks
from tests.support import SHARED

PLATFORM = "linux/arm64"
BASE = f"{IMAGES}/python-arm64"

_SUITE = "trixie"
_HERE = Path(__file__).parent


def need_emulator() -> None:
    """Have programs for arm64 run here; skip where that cannot be."""
    if os.geteuid() != 0:
        skip("only root can have the kernel run programs of another processor")
    if why := lacks("apt-get", "debootstrap"):
        skip(why)
    subprocess.run(["bash", _HERE / "emulator.sh", CACHE / "qemu-user"], check=True, timeout=600)


def image(service: str) -> str:
    return f"{IMAGES}/{service}:arm64"


def build_base() -> None:
    """Make a stand-in for `python:3.13-slim-trixie` out of Debian's packages, once."""
    if docker("images", "-q", BASE).strip():
        return
    archive = CACHE / "python-arm64.tar"
    if not archive.exists():
        subprocess.run(["bash", _HERE / "base.sh", _SUITE, archive], check=True, timeout=3600)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    settings = f"{path} LANG=C.UTF-8 PIP_CERT={certificates} SSL_CERT_FILE={certificates}"
    dockerfile = f'FROM scratch\nADD {archive.name} /\nENV {settings}\nCMD ["python3"]\n'
    with TemporaryDirectory(dir=CACHE) as context:
        (Path(context) / archive.name).hardlink_to(archive)
        build("-t", BASE, "-f", "-", context, input_text=dockerfile)


def build(*words: str, input_text: str | None = None) -> None:
    """Build an image for arm64."""
    docker("build", "-q", "--platform", PLATFORM, *words, input_text=input_text)


def build_images() -> None:
    """Build all four, detect with the models that are at hand."""
    models = f"{IMAGES}/models-arm64"
    build("-t", models, "-f", "-", str(SHARED / "models"), input_text="FROM scratch\nCOPY *.onnx /\n")
    mirrors = [name for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if name in os.environ]
    for service in SERVICES:
        given = [f"BASE={BASE}", *mirrors, *([f"MODELS={models}"] if service == "detect" else [])]
        arguments = [part for one in given for part in ("--build-arg", one)]
        dockerfile = f"{ROOT}/services/{service}/Dockerfile"
        command = ["docker", "build", "-q", "--platform", PLATFORM, "-t", image(service), "-f", dockerfile]
        built = subprocess.run(
            [*command, *arguments, str(ROOT)], capture_output=True, text=True, check=False, timeout=3600
        )
        assert built.returncode == 0, built.stderr[-3000:]
