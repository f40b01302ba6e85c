"""What the figures were measured on."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from services.capture.ffmpeg import find_ffmpeg
from services.up.brokers import find_mosquitto

_PACKAGES = ("aiomqtt", "onnxruntime", "opencv-python-headless", "simplejpeg", "obstore", "aioboto3")


def describe() -> str:
    """Return processor, memory and versions, in one line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    programs = {"Mosquitto": [find_mosquitto(), "-h"], "ffmpeg": [find_ffmpeg(), "-version"]}
    known = {
        "Linux": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        **{name: _version(command) for name, command in programs.items()},
        **{name: version(name) for name in _PACKAGES},
    }
    machine = f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"
    return "; ".join([machine, *(f"{name} {value}" for name, value in known.items())])


def _version(command: list[str]) -> str:
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"version ([^\s-]+)", told)
    return found[1] if found else "unknown"
