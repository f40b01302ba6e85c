"""Faces into the spool's tables, out of them, and from one to another. The caller commits."""

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
"""Why a row is set aside that holds no face any more. It does not go back, for it can go nowhere."""
UNANSWERED = "unanswered"
"""Why a face is set aside that the store never answered for while it did for others."""
OTHER_DEVICE = "other_device"
"""Why a face is set aside whose topic is not this device's: nobody here would hear of its receipt."""
TOO_LARGE = "packet_too_large"
"""Why a face is set aside that is larger than the broker takes."""

NO_PLACE = 1 << 60
"""No face is given such a place; damage may."""
MOST_MOVED_BYTES = 1024 * 1024

IS_FACE_TOPIC = re.compile(rf"{ROOT}/{NAME_PATTERN}/{NAME_PATTERN}/face")
"""Of whichever device. What is not of this one and does not match is damaged."""

_AS_BYTES_BUT_PAYLOAD = ", ".join(f"CAST({column} AS BLOB)" for column in COLUMNS.split(", ")[:-1])
AS_BYTES = f"{_AS_BYTES_BUT_PAYLOAD}, CAST(payload AS BLOB)"
WAITING = TABLES[0]
_TABLES_APART = ("set_aside", "quarantine")


def insert(connection: sqlite3.Connection, faces: Sequence[SpooledFace], now_s: float) -> int:
    """Add faces, except those that are there; return how many were added.

    Raises:
        sqlite3.IntegrityError: another face has the same place: somebody else writes to this spool, and
            nothing of ours is safe.
    """
    return sum(_insert(connection, face, now_s) for face in faces)


def _insert(connection: sqlite3.Connection, face: SpooledFace, now_s: float) -> int:
    row = to_row(face.message)
    added = connection.execute(
        "INSERT INTO faces VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (face.sequence, face.id, now_s, *row),
    ).rowcount
    if not added:
        # What is held under this id may be damaged by now, and a receipt is for what is on the disk.
        connection.execute(
            "UPDATE faces SET topic = ?, content_type = ?, attributes = ?, payload = ? WHERE id = ?"
            " AND (topic, content_type, attributes, payload) IS NOT (?, ?, ?, ?)",
            (*row, face.id, *row),
        )
    return added


def delete(connection: sqlite3.Connection, face_ids: Sequence[str]) -> tuple[int, int]:
    """Let faces go that the store has; return how many waited, and how many were given up as unanswered."""
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
    _delete(connection, refused)  # one that is set aside as unanswered stays: there is no other copy
    return moved


@dataclass(slots=True)
class Moves:
    """What was set aside: of what was asked, how many rows went, and how many came there, by reason."""

    done: list[str | int] = field(default_factory=list)
    gone: int = 0
    came: Counter[str] = field(default_factory=Counter)


def set_aside(
    connection: sqlite3.Connection, faces: Mapping[str, str], bad_rows: Mapping[int, str], now_s: float
) -> Moves:
    """Set faces aside by their id, and rows as they are by their place, each with the reason.

    It stops at about `MOST_MOVED_BYTES`: the reserve has to have room for what is moved.
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
    """Let the oldest refused faces go until the rest weighs no more; return the ids of those that went.

    The oldest by their place, for `refused_at` is of a clock that may have been set meanwhile.
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
    """Yield rows in order, of the part that is to be read: place, and face or why it is not sent.

    The images of those that cannot be sent are not touched: a thousand of them must not keep others waiting.
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
    """Return what is wrong with a row that holds no face to be sent."""
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
    """Return where the faces are that a request means. Damaged rows are none of them: they can go nowhere.

    Args:
        connection: the spool's.
        request: which are wanted.
        own: this device. Where faces are to become its own, those of others are meant too that wait among its
            own and were not met yet.
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
    """Move faces that are apart back among those that wait, at most about `MOST_MOVED_BYTES` of them.

    Args:
        connection: the spool's.
        places: where they are; one that is gone is left out.
        device: see `PutBackRequest`: faces of others become this one's.
        next_sequence: gives each its place.
        now_s: since when they are held, Unix time.

    Returns:
        the ids of those that are there now, and how many places were looked at.
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
    """Return what people have asked to go back, by the request's number."""
    found = connection.execute("SELECT number, reason, id, device FROM requests ORDER BY number")
    return [
        (number, PutBackRequest(reason, face_id, device=device)) for number, reason, face_id, device in found
    ]


def ask(connection: sqlite3.Connection, request: PutBackRequest) -> None:
    """Ask for faces to go back, which the forward that has the spool does."""
    connection.execute(
        "INSERT INTO requests (reason, id, device) VALUES (?, ?, ?)",
        (request.reason, request.id, request.device),
    )


def answer(connection: sqlite3.Connection, number: int) -> None:
    """Forget a request: it is done."""
    connection.execute("DELETE FROM requests WHERE number = ?", (number,))


def _move_aside(
    connection: sqlite3.Connection, where: tuple[str, str, Any], reason: str, now_s: float
) -> tuple[int, int]:
    """Move what stands in a table, where a column has a value, to what is set aside.

    Returns:
        how many came there, and how many went from the table: one that was there already only goes.
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
