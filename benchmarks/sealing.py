"""What sealing costs: the whole pipeline over the same clip, sealed and not, in turns.

    python -m benchmarks.sealing [--rounds 3] [--json FILE]

Every frame of a clip of people, 640x480, where faces are much of the work. Processor time counts our
services, ffmpeg and both brokers. Ends with status 1 if a sealed face costs more than 1.15 times a plain one.
"""

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.clips import CROWD, clip
from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from benchmarks.rig import median
from benchmarks.ways import Cost, flat_out
from services.common.age import new_identity

MOST_TIMES = 1.15
SEAL_TO = "FACEFERRY_SEAL_TO"
ABOUT = """
Every frame of a clip of people (640x480, MJPEG) goes paced through all four services and both brokers into
a folder, {rounds} times sealed for a key that nobody has and {rounds} times not, in turns; medians of the
processor time a face.
"""


def measure(options: argparse.Namespace) -> Part:
    """Play the clip in turns, and compare."""
    _nobodys, public = new_identity()
    video = clip(CROWD, "mjpeg", "640x480")
    costs: dict[str, list[Cost]] = {"plain": [], "sealed": []}
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        for number in range(options.rounds):
            for way, found in costs.items():
                os.environ.pop(SEAL_TO, None)
                if way == "sealed":
                    os.environ[SEAL_TO] = public
                found.append(flat_out(video, Path(folder) / f"{way}-{number}", None))
    os.environ.pop(SEAL_TO, None)
    plain, sealed = (median([cpu_ms_a_face(each) for each in costs[way]]) for way in ("plain", "sealed"))
    return Part(
        "sealing",
        "Sealed faces",
        ABOUT.format(rounds=options.rounds),
        (
            Figure(
                "processor time of a sealed face, times one that is not", sealed / plain, "less", MOST_TIMES
            ),
        ),
        (
            Table(
                "Processor time",
                ("way", "faces", "CPU ms a face"),
                tuple((way, each.faces, cpu_ms_a_face(each)) for way, some in costs.items() for each in some),
            ),
        ),
    )


def cpu_ms_a_face(cost: Cost) -> float:
    """Return what a face costs, with the frames that it was looked for in."""
    return sum(cost.cpu_ms.values()) / cost.faces


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how often."""
    parser.add_argument("--rounds", type=int, default=3, help="of each way")


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
