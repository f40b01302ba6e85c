import argparse
import os
from pathlib import Path

from services.common.errors import SetupError
from services.common.storage.locations import DEFAULT_STORE, state_folder, store_url
from services.forward.spool import holdings
from services.forward.spool.disk import DATABASE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry spool`."""
    default = f"FACEFERRY_SPOOL_PATH, else that of `faceferry up` with its store {DEFAULT_STORE}"
    holdings.add_arguments(parser, default)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the faces that wait for the cloud and those set aside, or put the latter back."""
    default = default_folder()
    is_named = options.words[options.words[:1] == [holdings.REQUEUE] :]
    if not is_named and not (default / DATABASE).exists():
        raise SetupError(
            f"there is no spool at {default}, where `faceferry up` has that of {DEFAULT_STORE} in this "
            "folder: go to where it was run, or name the spool "
            "(faceferry spool FOLDER, or FACEFERRY_SPOOL_PATH)"
        )
    return holdings.run(options, default)


def default_folder() -> Path:
    """Return the default folder of the spool."""
    if named := os.environ.get("FACEFERRY_SPOOL_PATH"):
        return Path(named)
    return state_folder(store_url(DEFAULT_STORE), os.environ) / "spool"
