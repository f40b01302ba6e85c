import argparse
import os
from pathlib import Path

from services.common.storage.addresses import DEFAULT_STORE, store_url
from services.forward import holdings
from services.up.places import state_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry spool`."""
    default = f"FACEFERRY_SPOOL_PATH, else that of `faceferry up` with its store {DEFAULT_STORE}"
    holdings.add_arguments(parser, default)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show what waits for the cloud, and what is apart; or put that back."""
    return holdings.run(options, default_folder())


def default_folder() -> Path:
    """Return the folder of the spool that is meant where none is named."""
    if named := os.environ.get("FACEFERRY_SPOOL_PATH"):
        return Path(named)
    return state_folder(store_url(DEFAULT_STORE), os.environ) / "spool"
