"""Inserts faces into the spool's tables, deletes, reads and moves them. The caller commits."""

import contextlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from services.common.wire.faces import decode_face, encode_face, mint
from services.common.wire.topics import NAME_PATTERN, ROOT, Source, is_of_device
from services.forward.spool.commands import BacklogRead, PutBackRequest, RowPlace
from services.forward.spool.database import COLUMNS, INDEX_OF_FIRSTS, IS_FIRST, TABLES, not_of
from services.forward.spool.face import SpooledFace, from_row, to_row

DAMAGED = "damaged"
"""The reason of a row that holds no face any more. It is never put back, because it cannot be delivered."""
UNANSWERED = "unanswered"
"""The reason of a face that the store never receipted while it receipted others."""
OTHER_DEVICE = "other_device"
"""The reason of a face whose topic is another device's: its receipt would not come here."""
TOO_LARGE = "packet_too_large"
"""The reason of a face that is larger than the broker takes."""

NO_PLACE = 1 << 60
"""No face is given this place or a larger one; damage may make one."""
MOST_MOVED_BYTES = 1024 * 1024

IS_FACE_TOPIC = re.compile(rf"{ROOT}/{NAME_PATTERN}/{NAME_PATTERN}/face")
"""A face's topic, of any device. A topic that is not this device's and does not match is damaged."""

_AS_BYTES_BUT_PAYLOAD = ", ".join(f"CAST({column} AS BLOB)" for column in COLUMNS.split(", ")[:-1])
AS_BYTES = f"{_AS_BYTES_BUT_PAYLOAD}, CAST(payload AS BLOB)"
WAITING = TABLES[0]
_TABLES_APART = ("set_aside", "quarantine")


def insert(connection: sqlite3.Connection, faces: Sequence[SpooledFace], now_s: float) -> int:
    """Add faces that are not there yet; return how many were added.

    Raises:
        sqlite3.IntegrityError: another face has the same place: another process writes to this spool, and
            nothing is safe.
    """
    return sum(_insert(connection, face, now_s) for face in faces)


def _insert(connection: sqlite3.Connection, face: SpooledFace, now_s: float) -> int:
    row = to_row(face.message)
    added = connection.execute(
        "INSERT INTO faces VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (face.sequence, face.id, now_s, *row),
    ).rowcount
    if not added:
        # The row with this id may be damaged by now, and a receipt is for what is on the disk.
        connection.execute(
            "UPDATE faces SET topic = ?, content_type = ?, attributes = ?, payload = ? WHERE id = ?"
            " AND (topic, content_type, attributes, payload) IS NOT (?, ?, ?, ?)",
            (*row, face.id, *row),
        )
    return added


def delete(connection: sqlite3.Connection, face_ids: Sequence[str]) -> tuple[int, int]:
    """Delete faces that the store has; return how many waited, and how many were set aside as unanswered."""
    ids = [(face_id,) for face_id in face_ids]
    given_up = connection.executemany(
        f"DELETE FROM set_aside WHERE reason = '{UNANSWERED}' AND id = ?",  # noqa: S608 - a constant
        ids,
    ).rowcount
    return _delete(connection, face_ids), given_up


def _delete(connection: sqlite3.Connection, face_ids: Iterable[str]) -> int:
    ids = [(face_id,) for face_id in face_ids]
    return connection.executemany("DELETE FROM faces WHERE id = ?", ids).rowcount


def quarantine(connection: sqlite3.Connection, refused: Mapping[str, str], now_s: float) -> int:
    """Move faces into quarantine, by id with the reason; return how many were there."""
    rows = [(now_s, reason, face_id) for face_id, reason in refused.items()]
    moved = connection.executemany(
        "INSERT OR REPLACE INTO quarantine"
        " SELECT id, ?, ?, topic, content_type, attributes, payload FROM faces WHERE id = ?",
        rows,
    ).rowcount
    _delete(connection, refused)  # one that is set aside as unanswered stays: it is the only copy
    return moved


@dataclass(slots=True)
class Moves:
    """The outcome of setting aside.

    Attributes:
        done: the ids and places that were dealt with.
        gone: how many rows left the faces that wait.
        came: how many rows were added to those set aside, by reason.
    """

    done: list[str | int] = field(default_factory=list)
    gone: int = 0
    came: Counter[str] = field(default_factory=Counter)


def set_aside(
    connection: sqlite3.Connection, faces: Mapping[str, str], bad_rows: Mapping[int, str], now_s: float
) -> Moves:
    """Set faces aside by their id, and rows as they are by their place, each with its reason.

    It stops at about `MOST_MOVED_BYTES`, because the reserve has to have room for what is moved.
    """
    moves = Moves()
    weight = 0
    wheres: list[tuple[str, str | int, str]] = [("id", face_id, reason) for face_id, reason in faces.items()]
    wheres += [("sequence", place, reason) for place, reason in bad_rows.items()]
    for column, value, reason in wheres:
        if weight > MOST_MOVED_BYTES:
            break
        size = connection.execute(
            f"SELECT length(payload) FROM faces WHERE {column} = ?",  # noqa: S608 - constants
            (value,),
        ).fetchone()
        weight += (size[0] or 0) if size else 0
        came, went = _move_aside(connection, ("faces", column, value), reason, now_s)
        moves.came[reason] += came
        moves.gone += went
        moves.done.append(value)
    return moves


def bound_quarantine(connection: sqlite3.Connection, most_bytes: int) -> list[str]:
    """Delete the oldest refused faces until the rest takes no more bytes; return the deleted ids.

    The oldest by their place, because `refused_at` is of a clock that may have been set meanwhile.
    """
    gone = connection.execute(
        "DELETE FROM quarantine WHERE id IN (SELECT id FROM (SELECT id, sum(length(payload))"
        " OVER (ORDER BY rowid DESC) AS weight FROM quarantine) WHERE weight > ?)"
        " RETURNING id",
        (most_bytes,),
    ).fetchall()
    return [face_id for (face_id,) in gone]


def select(
    connection: sqlite3.Connection, device: str, read: BacklogRead
) -> Iterator[tuple[int, SpooledFace | str]]:
    """Yield the rows of the part that is to be read, in order: place, and face or why it is not sent.

    Images that cannot be sent are not read, so that a thousand of them do not keep others waiting.
    """
    topics = read.unsendable.topics
    not_sent = f"({not_of(device)} OR topic IN ({', '.join('?' * len(topics))}) OR length(payload) > ?)"
    hints = (*topics, read.unsendable.most_bytes)
    source = f"faces INDEXED BY {INDEX_OF_FIRSTS} WHERE {IS_FIRST} AND" if read.only_firsts else "faces WHERE"
    cursor = connection.execute(
        f"SELECT {not_sent}, sequence, {_AS_BYTES_BUT_PAYLOAD},"  # noqa: S608 - constants
        f" CASE WHEN {not_sent} THEN NULL ELSE CAST(payload AS BLOB) END"
        f" FROM {source} sequence > ? AND sequence <= ? ORDER BY sequence",
        (*hints, *hints, read.after, read.until),
    )
    with contextlib.closing(cursor):
        for is_not_sent, sequence, *row in cursor:
            face = None if is_not_sent else from_row(sequence, row)
            yield sequence, face or _why_not_sent(row, device, topics)


def _why_not_sent(row: Sequence[object], device: str, topics: Mapping[str, str]) -> str:
    """Return the reason why a row holds no face to be sent."""
    _, topic, *_, payload = row
    if payload is not None or not isinstance(topic, bytes):
        return DAMAGED
    name = topic.decode(errors="replace")
    if name in topics:
        return topics[name]
    if not IS_FACE_TOPIC.fullmatch(name):
        return DAMAGED
    return TOO_LARGE if is_of_device(name, device) else OTHER_DEVICE


def find_apart(connection: sqlite3.Connection, request: PutBackRequest, own: str | None) -> list[RowPlace]:
    """Return the places of the faces that a request means; damaged rows are left out.

    Args:
        connection: the spool's.
        request: which faces.
        own: this device. If faces are to become its own, those of other devices that still wait among its own
            are meant, too.
    """
    found = [
        RowPlace(table, rowid)
        for table in _TABLES_APART
        for (rowid,) in connection.execute(
            f"SELECT rowid FROM {table}"  # noqa: S608 - constants
            f" WHERE reason != '{DAMAGED}' AND (:reason IS NULL OR reason = :reason)"
            " AND (:id IS NULL OR id = :id) AND (:most_bytes IS NULL OR length(payload) <= :most_bytes)"
            f" AND (:of IS NULL OR topic GLOB '{ROOT}/' || :of || '/*') ORDER BY rowid",
            asdict(request),
        )
    ]
    if own is not None and request.device == own and request.reason in (None, OTHER_DEVICE):
        found += [
            RowPlace(WAITING, rowid)
            for (rowid,) in connection.execute(
                f"SELECT sequence FROM {WAITING} WHERE {not_of(own)} AND (:id IS NULL OR id = :id)",  # noqa: S608
                asdict(request),
            )
        ]
    return found


def put_back(
    connection: sqlite3.Connection,
    places: Iterable[RowPlace],
    device: str | None,
    next_sequence: Callable[[], int],
    now_s: float,
) -> tuple[list[str], int]:
    """Put faces back among those that wait, at most about `MOST_MOVED_BYTES` of them.

    Args:
        connection: the spool's.
        places: where they are; empty ones are left out.
        device: the device whose faces they become (see `PutBackRequest`); None to leave them as they are.
        next_sequence: returns a new place for each.
        now_s: since when they are held, Unix time.

    Returns:
        the ids of those that were put back, and how many places were looked at.
    """
    back: list[str] = []
    weight = seen = 0
    for table, rowid in places:
        if weight > MOST_MOVED_BYTES:
            break
        seen += 1
        row = connection.execute(f"SELECT {AS_BYTES} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()  # noqa: S608
        if row is None:
            continue
        if (face := from_row(next_sequence(), row)) is None:
            _move_aside(connection, (table, "rowid", rowid), DAMAGED, now_s)
            continue
        weight += face.size_bytes
        if device is not None and not is_of_device(face.message.topic, device):
            face = _renamed(face, device)
        if table == WAITING and not is_of_device(face.message.topic, device or ""):
            continue
        if insert(connection, [face], now_s):
            back.append(face.id)
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))  # noqa: S608 - constants
    return back, seen


def requests(connection: sqlite3.Connection) -> list[tuple[int, PutBackRequest]]:
    """Return operators' requests to put faces back, with their numbers."""
    found = connection.execute("SELECT number, reason, id, device FROM requests ORDER BY number")
    return [
        (number, PutBackRequest(reason, face_id, device=device)) for number, reason, face_id, device in found
    ]


def ask(connection: sqlite3.Connection, request: PutBackRequest) -> None:
    """Add a request to put faces back, for the forward that has the spool."""
    connection.execute(
        "INSERT INTO requests (reason, id, device) VALUES (?, ?, ?)",
        (request.reason, request.id, request.device),
    )


def answer(connection: sqlite3.Connection, number: int) -> None:
    """Delete a request that is done."""
    connection.execute("DELETE FROM requests WHERE number = ?", (number,))


def _move_aside(
    connection: sqlite3.Connection, where: tuple[str, str, Any], reason: str, now_s: float
) -> tuple[int, int]:
    """Set aside the rows of a table in which a column has a value; `where` is table, column and value.

    Returns:
        how many were added to those set aside, and how many left the table: one may be set aside already.
    """
    table, column, value = where
    moved = connection.execute(
        "INSERT INTO set_aside (id, since, reason, topic, content_type, attributes, payload)"  # noqa: S608 - constants
        f" SELECT id, ?, ?, topic, content_type, attributes, payload FROM {table} AS it WHERE {column} = ?"
        " AND NOT EXISTS (SELECT 1 FROM set_aside WHERE reason = ? AND id = it.id)",
        (now_s, reason, value, reason),
    ).rowcount
    gone = connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,)).rowcount  # noqa: S608 - constants
    return moved, gone


def _renamed(face: SpooledFace, device: str) -> SpooledFace:
    old = decode_face(face.message)
    new = mint(Source(device, old.source.camera), old.time, old.image, old.content_type, old.extensions)
    return SpooledFace(face.sequence, new.id, encode_face(new))
