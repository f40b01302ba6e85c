import argparse
import os

from services.common.storage.addresses import DEFAULT_STORE, store_url
from services.store import retain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry retain`."""
    retain.add_arguments(parser, f"FACEFERRY_STORE_URL, else {DEFAULT_STORE}, where `up` puts them")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check for how long faces are kept, or put it into force."""
    named = options.store or os.environ.get("FACEFERRY_STORE_URL") or DEFAULT_STORE
    return retain.run(options, store_url(named))
