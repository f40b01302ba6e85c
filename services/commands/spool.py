import argparse
import json
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from services.common.errors import SetupError
from services.forward.database import connect_to_read
from services.forward.spool import DATABASE
from services.up.plan import DEFAULT_STORE, state_folder, store_url

LISTED = 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """A face in quarantine: its id, why the store refused it, its size."""

    id: str
    reason: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a spool holds: how many faces, their images' bytes, the oldest one's age, and the quarantine."""

    faces: int
    bytes: int
    oldest_s: float | None
    quarantined: int
    refusals: tuple[Refusal, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry spool`."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help=f"default: FACEFERRY_SPOOL_PATH, else that of `faceferry up` with its store {DEFAULT_STORE}",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show what waits for the cloud, and what the store has refused."""
    contents = look(options.folder or _default_folder(), time.time())
    print(json.dumps(asdict(contents)) if options.json else _as_text(contents))
    return 0


def look(folder: Path, now_s: float) -> Contents:
    """Return what a spool holds, without disturbing the forward that uses it.

    Raises:
        SetupError: there is no spool that can be read.
    """
    path = folder / DATABASE
    try:
        with closing(connect_to_read(path)) as database:
            faces, size, oldest = database.execute(
                "SELECT count(*), coalesce(sum(length(payload)), 0), min(held_since) FROM faces"
            ).fetchone()
            (quarantined,) = database.execute("SELECT count(*) FROM quarantine").fetchone()
            refusals = database.execute(
                "SELECT id, reason, length(payload) FROM quarantine ORDER BY refused_at DESC LIMIT ?",
                (LISTED,),
            ).fetchall()
    except sqlite3.Error as error:
        raise SetupError(f"{path} cannot be read: {error}") from error
    oldest_s = None if oldest is None else round(now_s - oldest, 1)
    return Contents(faces, size, oldest_s, quarantined, tuple(Refusal(*row) for row in refusals))


def _default_folder() -> Path:
    if named := os.environ.get("FACEFERRY_SPOOL_PATH"):
        return Path(named)
    return state_folder(store_url(DEFAULT_STORE), os.environ) / "spool"


def _as_text(contents: Contents) -> str:
    lines = [f"{contents.faces} faces wait for the store, {contents.bytes / 1e6:.1f} MB"]
    if contents.oldest_s is not None:
        lines.append(f"the oldest has waited {contents.oldest_s:.0f} s")
    lines.append(f"{contents.quarantined} in quarantine")
    lines += [f"    {each.id}  {each.reason}  {each.bytes} bytes" for each in contents.refusals]
    if contents.quarantined > len(contents.refusals):
        lines.append(f"    and {contents.quarantined - len(contents.refusals)} older ones")
    return "\n".join(lines)
