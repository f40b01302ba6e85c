"""The machine and versions that the figures were measured with."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from services.capture.source.ffmpeg import find_ffmpeg
from services.up.brokers import find_mosquitto


def describe() -> str:
    """Return processor and versions, in one line."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    known = {
        "Linux": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        "Mosquitto": _version([find_mosquitto(), "-h"]),
        "ffmpeg": _version([find_ffmpeg(), "-version"]),
        **{name: version(name) for name in ("onnxruntime", "opencv-python-headless", "obstore")},
    }
    machine = f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"
    return "; ".join([machine, *(f"{name} {value}" for name, value in known.items())])


def _version(command: list[str]) -> str:
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"version ([^\s-]+)", told)
    return found[1] if found else "unknown"
