"""What the figures were measured on."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from services.capture.ffmpeg import find_ffmpeg
from services.up.brokers import find_mosquitto

_PACKAGES = (
    "aiomqtt",
    "uvloop",
    "onnxruntime",
    "opencv-python-headless",
    "simplejpeg",
    "obstore",
    "aioboto3",
)


def describe() -> dict[str, str]:
    """Return processor, memory and versions, by what they are of."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory_gib:.0f} GiB",
        "Linux": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        "Mosquitto": _version([find_mosquitto(), "-h"]),
        "ffmpeg": _version([find_ffmpeg(), "-version"]),
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(command: list[str]) -> str:
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"version ([^\s-]+)", told)
    return found[1] if found else "unknown"
