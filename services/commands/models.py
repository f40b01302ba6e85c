import argparse
import os
from pathlib import Path

from services.common.errors import SetupError
from services.detect.detector_choice import forecast
from services.detect.models import MODELS, ModelUnavailable, cache_folder, fetch, list_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry models`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="which there are, where, and which is taken (default)")
    fetched = actions.add_parser("fetch", help="download models, or have pip get them, and check them")
    fetched.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    fetched.add_argument("--into", type=Path, metavar="FOLDER", help="default: the user's cache")
    actions.add_parser("verify", help="check the files that are here; status 1 if one is corrupted")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List, fetch or verify the detector's models."""
    if options.action == "fetch":
        return _fetch(options.names or list(MODELS), options.into or cache_folder())
    return _list(is_verdict=options.action == "verify")


def _list(*, is_verdict: bool) -> int:
    named = os.environ.get("FACEFERRY_MODEL_DIR")
    is_corrupted = False
    for found in list_models(Path(named) if named else None):
        print(
            f"{found.model.name:10} {found.state:10} {found.path or found.model.origin}  ({found.model.note})"
        )
        is_corrupted |= found.state == "corrupted"
    taken = forecast(os.environ)
    print(f"taken: {taken.detector}: {taken.why}")
    return int(is_verdict and is_corrupted)


def _fetch(names: list[str], folder: Path) -> int:
    if unknown := [name for name in names if name not in MODELS]:
        raise SetupError(f"there is no model {unknown[0][:80]!r}; there are {', '.join(MODELS)}")
    problems = []
    for name in names:
        try:
            print(fetch(MODELS[name], folder))
        except ModelUnavailable as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SetupError("; ".join(problems))
    return 0
