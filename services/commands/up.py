import argparse
import os

from services.common.runtime.arguments import seconds
from services.common.runtime.lifecycle import run_until_stopped
from services.common.storage.locations import DEFAULT_STORE
from services.detect.detector_choice import DETECTORS
from services.up.passwords import other_accounts
from services.up.plan import RunRequest
from services.up.run import up

MOST_TIMEOUT_S = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry up`."""
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="[NAME=]SOURCE",
        help="a video file, a device, an RTSP or HTTP URL; default: FACEFERRY_CAMERAS, else the first camera "
        "of this machine, else a short demonstration clip",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="[NAME=]SOURCE",
        help="another one; may be given several times",
    )
    parser.add_argument(
        "--store",
        metavar="URL_OR_PATH",
        help="a folder, or s3://bucket/prefix (with AWS_* and FACEFERRY_S3_* settings); default: "
        f"FACEFERRY_STORE_URL, else {DEFAULT_STORE}",
    )
    parser.add_argument("--once", action="store_true", help="play files once, each frame of them, then end")
    parser.add_argument("--json", action="store_true", help="close with one JSON object on standard output")
    parser.add_argument(
        "--timeout",
        type=seconds(MOST_TIMEOUT_S),
        default=120.0,
        metavar="S",
        help="with --once: seconds in which something must move; default: %(default)s",
    )
    parser.add_argument(
        "--detector",
        choices=DETECTORS,
        default=os.environ.get("FACEFERRY_DETECTOR", "auto"),
        help="default: %(default)s",
    )
    parser.add_argument(
        "--shared",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether others are on this machine, of whom brokers and pages on 127.0.0.1 are to ask for a "
        "password; auto: where others have accounts; default: %(default)s",
    )
    parser.add_argument(
        "--keep",
        choices=("visits", "every"),
        default=os.environ.get("FACEFERRY_KEEP", "visits"),
        help="a few good pictures of each visit, or each face of each frame; default: %(default)s",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run everything until it is done, or until Ctrl-C."""
    request = RunRequest(
        sources=[*options.sources, *options.source],
        store=options.store,
        is_once=options.once,
        is_json=options.json,
        timeout_s=options.timeout,
        detector=options.detector,
        is_shared=options.shared == "yes" or (options.shared == "auto" and bool(other_accounts())),
        keep=options.keep,
    )
    return run_until_stopped(up(request)) or 0
