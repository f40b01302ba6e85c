"""Records what all services say of themselves, for two minutes: `python -m tests.metrics.record`.

The samples lie beside this file, and dashboards are tried with them. To be done anew where a dashboard asks
for metrics that are newer than they are.
"""

import contextlib
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from services.capture.source.ffmpeg import find_ffmpeg
from tests.support import SHARED

SAMPLES = Path(__file__).with_name("samples.txt.gz")
SCRAPES = 20
EVERY_S = 5.0
_CLIP = SHARED / "data" / "video" / "face-demographics-walking-and-pause.mp4"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OURS = re.compile(r"(faceferry|process)_\w+(?<!_created)[ {]")


def record() -> None:
    """Run everything on this machine for two minutes, and keep what is scraped."""
    with tempfile.TemporaryDirectory() as folder, gzip.open(SAMPLES, "wt") as kept:
        log = Path(folder) / "log"
        clip = _again_and_again(Path(folder))
        sources = ["--source", f"front={clip}", "--source", "yard=test://"]
        arguments = [*sources, "--store", f"{folder}/faces", "--keep", "visits"]
        with log.open("wb") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "up", *arguments],
                env={**os.environ, "FACEFERRY_DEVICE": "porch", "XDG_STATE_HOME": folder},
                stdout=told,
                stderr=told,
            )
        try:
            for _ in range(SCRAPES):
                time.sleep(EVERY_S)
                said = _COLOURS.sub("", log.read_text())
                for page in re.findall(r"http://127\.0\.0\.1:\d+/", said):
                    with contextlib.suppress(OSError):
                        urllib.request.urlopen(page, timeout=EVERY_S).close()  # noqa: S310 - http
                for job, port in re.findall(r"(\w+) +\| health.listening.*?port=(\d+)", said):
                    kept.writelines(_scrape(job, port))
        finally:
            process.terminate()
            process.wait()


def _again_and_again(folder: Path) -> Path:
    """Return a clip in which somebody comes all the time."""
    clip = folder / f"clip{_CLIP.suffix}"
    loop = ["-stream_loop", "8", "-i", str(_CLIP), "-an", "-c", "copy", str(clip)]
    subprocess.run([find_ffmpeg(), "-nostdin", "-loglevel", "error", *loop], check=True)
    return clip


def _scrape(job: str, port: str) -> list[str]:
    """Return a line for each sample: as Prometheus' text, with who said it, and when."""
    lines = []
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=EVERY_S) as answer:
            said = answer.read().decode()
        for line in said.splitlines():
            if _OURS.match(line):
                series, _, value = line.rpartition(" ")
                lines.append(f"{sample(series, job, port)} {value} {time.time():.0f}\n")
        lines.append(f"{sample('up', job, port)} 1 {time.time():.0f}\n")
    return lines


def sample(series: str, job: str, port: str) -> str:
    """Return a series with the labels that Prometheus gives it."""
    name, _, labels = series.partition("{")
    given = f'job="{job}",instance="127.0.0.1:{port}"'
    return f"{name}{{{labels.rstrip('}')}{',' if labels else ''}{given}}}"


if __name__ == "__main__":
    record()
