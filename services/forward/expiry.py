"""Faces that are older than faces are kept, out of the spool's tables. The caller commits."""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime

from services.common.retention import Retention
from services.common.wire import times
from services.common.wire.cloudevents import UNSYNCHRONISED
from services.forward.ages import RIGHT_SINCE_S
from services.forward.spooled import property_in_row

AT_ONCE = 32
"""Of each kind, in one commit: even on a disk that is full there is room for that."""

_FIRST_RIGHT = times.compact(times.from_unix_s(RIGHT_SINCE_S))
_IS_TIME_KNOWN = f"instr(attributes, '{property_in_row(UNSYNCHRONISED)}') = 0"
_SINCE = {"faces": "held_since", "quarantine": "refused_at", "set_aside": "since"}


@dataclass(slots=True)
class Expired:
    """What went: ids of faces that waited, and how many were apart, by table."""

    ids: list[str] = field(default_factory=list)
    apart: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ids) or any(self.apart.values())

    def take(self, table: str, found: list[str]) -> None:
        """Add what went from a table."""
        if table == "faces":
            self.ids += found
        else:
            self.apart[table] = self.apart.get(table, 0) + len(found)


def expire(connection: sqlite3.Connection, limit: datetime, now_s: float) -> Expired:
    """Let go of some of what is older than a time, wherever it is; call again while there is any.

    Whose frame was taken before it goes by its id, which begins with the time. Where the camera did not know
    the time, where its clock had not been set and showed years ago, and where the id is damaged, what counts
    is since when the row is there; where not even that can be right, it counts from now on.

    Args:
        connection: the spool's.
        limit: whatever is older goes, UTC.
        now_s: now, Unix time.
    """
    gone = Expired()
    for table, since in _SINCE.items():
        gone.take(table, _by_id(connection, table, limit))
        gone.take(table, _by_row(connection, table, since, limit, now_s))
    return gone


def is_expired(face_id: str, retention: Retention, now: datetime) -> bool:
    """Say whether a face was taken longer ago than faces are kept, by its id."""
    limit = retention.limit(now)
    return limit is not None and face_id < times.compact(limit)


def _by_id(connection: sqlite3.Connection, table: str, limit: datetime) -> list[str]:
    """Let go of what an index finds."""
    values = {"first": _FIRST_RIGHT, "limit": times.compact(limit), "most": AT_ONCE}
    wheres: list[tuple[str, dict[str, object]]] = [("", {})]
    if table == "set_aside":  # its index begins with the reason
        reasons = connection.execute("SELECT DISTINCT reason FROM set_aside").fetchall()
        wheres = [("reason = :reason AND", {"reason": reason}) for (reason,) in reasons]
    gone: list[str] = []
    for where, more in wheres:
        gone += _delete(
            connection,
            table,
            f"SELECT rowid FROM {table} WHERE {where} id >= :first AND id < :limit"  # noqa: S608 - constants
            f" AND {_IS_TIME_KNOWN} LIMIT :most",
            {**values, **more},
        )
    return gone


def _by_row(
    connection: sqlite3.Connection, table: str, since: str, limit: datetime, now_s: float
) -> list[str]:
    """Let go of what has been there for too long, of the rows that came first."""
    values = {"right": RIGHT_SINCE_S, "limit": limit.timestamp(), "now": now_s, "most": AT_ONCE}
    first = f"SELECT rowid, {since} AS since FROM {table} ORDER BY rowid LIMIT :most"  # noqa: S608 - constants
    connection.execute(
        f"UPDATE {table} SET {since} = :now WHERE rowid IN"  # noqa: S608 - constants
        f" (SELECT rowid FROM ({first})"
        " WHERE typeof(since) != 'real' OR since < :right OR since > :now + 100000)",
        values,
    )
    return _delete(
        connection,
        table,
        f"SELECT rowid FROM ({first}) WHERE since >= :right AND since < :limit",  # noqa: S608 - constants
        values,
    )


def _delete(
    connection: sqlite3.Connection, table: str, which: str, values: dict[str, object] | dict[str, float]
) -> list[str]:
    found = connection.execute(
        f"DELETE FROM {table} WHERE rowid IN ({which}) RETURNING CAST(id AS BLOB)",  # noqa: S608 - constants
        values,
    ).fetchall()
    return [face_id.decode(errors="replace") for (face_id,) in found if face_id is not None]
