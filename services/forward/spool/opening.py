"""Opening a spool's database, in whatever state it and its disk are."""

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.forward.spool import database, replacement
from services.forward.spool.database import SpoolDamaged, SpoolFull, translated
from services.forward.spool.folder import Reserve

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """A database that is open.

    Attributes:
        connection: to it; the owner of this object closes it.
        is_exclusive: whether other processes are locked out, because there is no room for the log's index.
        knows_firsts: whether it has the index of faces that may be first pictures.
    """

    connection: sqlite3.Connection
    is_exclusive: bool = False
    knows_firsts: bool = False


def open_database(path: Path, device: str, reserve: Reserve) -> Opened:
    """Open a database; write a damaged one anew, and release the reserve on a full disk.

    Args:
        path: where it is; it is made if it is missing.
        device: this device, whose faces alone can be delivered from here.
        reserve: released if the disk is full.

    Raises:
        SetupError: a newer version made it.
        SpoolDamaged: it is damaged, and there is no room to write it anew.
        SpoolFull: there is no room to make one.
        SpoolUnwritable: the disk does not let it be opened.
    """
    try:
        return _connect_or_replace(path, device)
    except SpoolFull:
        # Even reading a database takes room, for the index of its log.
        log.error("spool.disk_full")  # noqa: TRY400 - foreseen
        with translated():
            replacement.bound_damaged(path.parent, 0)
            reserve.release()
    try:
        return _connect_or_replace(path, device)
    except SpoolFull:
        return _connect_alone(path)


def connect(path: Path, device: str) -> Opened:
    """Open a database that is whole, and make its indexes; see `database.connect` for what is raised."""
    connection = database.connect(path)
    # Without it faces of others are met one by one, as they are read.
    with contextlib.suppress(SpoolFull), translated():
        database.keep_index_of_others(connection, device)
    # Without it faces are sent in the order in which they came.
    with contextlib.suppress(SpoolFull), translated():
        database.keep_index_of_firsts(connection)
    with translated():
        return Opened(connection, knows_firsts=database.has_index_of_firsts(connection))


def nowhere() -> sqlite3.Connection:
    """Return a connection to an empty database without tables, in the place of one that cannot be opened."""
    return sqlite3.connect(":memory:", check_same_thread=False)


def _connect_or_replace(path: Path, device: str) -> Opened:
    try:
        return connect(path, device)
    except SpoolDamaged as error:
        replacement.replace(path, None, str(error))
        return connect(path, device)


def _connect_alone(path: Path) -> Opened:
    connection = database.connect(path, is_exclusive=True)
    with translated():
        return Opened(connection, is_exclusive=True, knows_firsts=database.has_index_of_firsts(connection))
