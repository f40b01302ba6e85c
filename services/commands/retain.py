import argparse

from services.commands.stores import to_read
from services.common.storage.locations import DEFAULT_STORE
from services.store import retain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry retain`."""
    retain.add_arguments(parser, f"FACEFERRY_STORE_URL, else {DEFAULT_STORE}, where `up` puts them")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check the retention of faces, or enforce it."""
    return retain.run(options, to_read(options.store).store_url)
