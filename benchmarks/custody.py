"""The custody proof in its long form: known faces, and everything that can fail, failing at random.

    python -m benchmarks.custody [--seeds 3] [--seed N] [--faces 7000] [--faults 110] [--seconds 150]
        [--s3-server PROGRAM] [--json FILE] [--markdown FILE]

A driver in detect's place publishes faces, each of its own; forward, store, both brokers, the link, the
bucket, the spool's disk and the clocks fail meanwhile. When all is well again the bucket is compared with
what was published, byte for byte. Ends with status 1 if a face is lost, is there twice, or differs. Needs
root for the spool's small disk, and libfaketime; what cannot be had is left out, and said.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from services.common.logging import configure_logging
from tests.custody.report import Report, as_json, as_markdown
from tests.custody.run import run
from tests.support import SHARED


def main() -> int:
    """Run the proof; return the exit status."""
    options = _parser().parse_args()
    configure_logging("benchmark", "error", "console")
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    program = options.s3_server or _build_s3_server()
    reports: list[Report] = []
    for seed in range(first, first + options.seeds):
        with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
            playing = run(
                Path(folder),
                program,
                seed,
                faces=options.faces,
                faults=options.faults,
                seconds=options.seconds,
            )
            reports.append(asyncio.run(playing))
        print(reports[-1].as_text(), flush=True)
        if options.json:
            options.json.write_text(as_json(reports))
        if options.markdown:
            options.markdown.write_text(as_markdown(reports))
    print(as_markdown(reports))
    return 0 if all(report.is_perfect for report in reports) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs, each with the next seed")
    parser.add_argument("--seed", type=int, help="the first of them; default: any")
    parser.add_argument("--faces", type=int, default=7_000, help="in each run")
    parser.add_argument("--faults", type=int, default=110, help="in each run")
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="how long the faces of a run take to go in"
    )
    parser.add_argument("--s3-server", help="a versitygw program")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="and as tables here")
    return parser


def _build_s3_server() -> str:
    built = subprocess.run([SHARED / "images" / "s3-server"], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        sys.exit(f"no S3 server: name a versitygw program with --s3-server ({built.stderr.strip()[-200:]})")
    return built.stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
