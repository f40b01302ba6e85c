"""Shows what a spool holds, and puts faces back: `python3 -m services.forward.spool.holdings`.

The same as `faceferry spool`.
"""

import argparse
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from services.common.errors import SetupError
from services.common.wire.topics import is_name
from services.forward.spool import rows
from services.forward.spool.commands import PutBackRequest
from services.forward.spool.database import connect_to_read, connect_to_write
from services.forward.spool.disk import DATABASE
from services.forward.spool.expiry import RIGHT_SINCE_S, waited_s
from services.forward.spool.replacement import damaged_files

LISTED = 20
REQUEUE = "requeue"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A face that is in quarantine or set aside: its id, the reason, the size of its image."""

    id: str
    reason: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a spool holds.

    Attributes:
        faces: how many wait for the store.
        bytes: of their images.
        oldest_s: how long the oldest has waited, of those that came while the clock was right; None if that
            is not known.
        quarantined: how many the store has refused.
        refusals: the newest of them.
        set_aside: how many cannot be delivered at present, by reason.
        asides: the newest of them.
        damaged: paths of databases that were found damaged and replaced.
    """

    faces: int
    bytes: int
    oldest_s: float | None
    quarantined: int
    refusals: tuple[Refusal, ...]
    set_aside: dict[str, int]
    asides: tuple[Refusal, ...]
    damaged: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare the arguments; `default` is the text for the folder that is used if none is named."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar=f"[{REQUEUE}] [FOLDER]",
        help=f"{REQUEUE}: put faces back that are in quarantine or set aside. FOLDER by default: {default}",
    )
    parser.add_argument("--reason", help=f"{REQUEUE} only those with this reason")
    parser.add_argument("--id", help=f"{REQUEUE} only this face")
    parser.add_argument(
        "--device",
        help=f"{REQUEUE} faces of other devices as faces of this one, with new ids: what a wrong "
        "FACEFERRY_DEVICE has taken",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace, default: Path) -> int:
    """Print what a spool holds, or put faces back; return the exit status.

    Raises:
        SetupError: there is no such spool, or it cannot be used.
    """
    is_requeue = options.words[:1] == [REQUEUE]
    folders = options.words[is_requeue:]
    if len(folders) > 1:
        raise SetupError(f"one folder is wanted, not {len(folders)}")
    folder = Path(folders[0]) if folders else default
    if is_requeue:
        return _requeue(
            folder, PutBackRequest(options.reason, options.id, device=options.device), is_json=options.json
        )
    contents = look(folder, time.time())
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
            database.text_factory = lambda text: text.decode(errors="replace")
            faces, size, oldest = database.execute(
                "SELECT count(*), coalesce(sum(length(payload)), 0), min(held_since)"
                " FILTER (WHERE typeof(held_since) = 'real' AND held_since >= ?) FROM faces",
                (RIGHT_SINCE_S,),
            ).fetchone()
            (quarantined,) = database.execute("SELECT count(*) FROM quarantine").fetchone()
            set_aside = database.execute("SELECT reason, count(*) FROM set_aside GROUP BY reason").fetchall()
            refusals = _newest(database, "quarantine")
            asides = _newest(database, "set_aside")
    except sqlite3.Error as error:
        raise SetupError(f"{path} cannot be read: {error}") from error
    oldest_s = None if (waited := waited_s(oldest, now_s)) is None else round(waited, 1)
    damaged = tuple(str(found) for found in damaged_files(folder))
    return Contents(faces, size, oldest_s, quarantined, refusals, dict(set_aside), asides, damaged)


def _newest(database: sqlite3.Connection, table: str) -> tuple[Refusal, ...]:
    found = database.execute(
        f"SELECT CAST(id AS TEXT), reason, length(payload) FROM {table} ORDER BY rowid DESC LIMIT ?",  # noqa: S608 - constants
        (LISTED,),
    )
    return tuple(Refusal(*row) for row in found)


def _requeue(folder: Path, request: PutBackRequest, *, is_json: bool) -> int:
    """Ask the forward that has the spool, or has it next, to put faces back: only that one moves them."""
    if request.device is not None and not is_name(request.device):
        raise SetupError(f"--device: {request.device!r} is no device's name")
    path = folder / DATABASE
    try:
        with closing(connect_to_write(path)) as database, database:
            count = len(rows.find_apart(database, request, request.device))
            if count:
                rows.ask(database, request)
    except sqlite3.Error as error:
        raise SetupError(f"{path} cannot be written: {error}") from error
    said = f"{count} faces go back: within seconds if forward runs, else when it starts"
    print(json.dumps({"requeued": count}) if is_json else said if count else "there is nothing to put back")
    return 0


def _as_text(contents: Contents) -> str:
    lines = [f"{contents.faces} faces wait for the store, {contents.bytes / 1e6:.1f} MB"]
    if contents.oldest_s is not None:
        lines.append(f"the oldest has waited {contents.oldest_s:.0f} s")
    lines.append(f"{contents.quarantined} in quarantine: the store has refused them")
    lines += _listed(contents.refusals, contents.quarantined)
    aside = sum(contents.set_aside.values())
    lines.append(f"{aside} set aside: they cannot be delivered as things are")
    lines += [f"    {count} {reason}" for reason, count in contents.set_aside.items()]
    lines += _listed(contents.asides, aside)
    if aside or contents.quarantined:
        lines.append(f"when the cause is repaired: faceferry spool {REQUEUE}")
    shown = (path.encode(errors="backslashreplace").decode() for path in contents.damaged)
    lines += [f"damaged, and replaced: {path}" for path in shown]
    return "\n".join(lines)


def _listed(refusals: tuple[Refusal, ...], count: int) -> list[str]:
    lines = [f"    {each.id}  {each.reason}  {each.bytes} bytes" for each in refusals]
    return [*lines, f"    and {count - len(refusals)} older ones"] if count > len(refusals) else lines


def main() -> int:
    """Run the command for the spool of this container; return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m services.forward.spool.holdings", description=__doc__)
    add_arguments(parser, "FACEFERRY_SPOOL_PATH")
    try:
        return run(parser.parse_args(), Path(os.environ.get("FACEFERRY_SPOOL_PATH", "spool")))
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
