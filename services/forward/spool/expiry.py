"""Deletes faces that are too old, or to be erased, from the spool's tables. The caller commits."""

import itertools
import json
import sqlite3
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from services.common.erasure.selection import Selection
from services.common.retention import Retention
from services.common.wire import times
from services.common.wire.cloudevents import UNSYNCHRONISED
from services.common.wire.topics import ROOT
from services.forward.spool.database import TABLES
from services.forward.spool.face import property_in_row
from services.forward.spool.rows import DAMAGED

RIGHT_SINCE_S = 1_735_689_600.0
"""2025-01-01, Unix time: a clock that shows less has not been set, because this program is younger."""
_FINEST_S = 1.0
_MOST_MARKS = 4_096


def waited_s(since_s: float | None, wall_s: float) -> float | None:
    """Return how many seconds ago something was by the wall clock, or None if one of the two times is wrong.

    Args:
        since_s: when it was, by the wall clock of then, Unix time, or None.
        wall_s: what the wall clock shows now, Unix time.
    """
    if since_s is None or not RIGHT_SINCE_S <= since_s <= wall_s:
        return None
    return wall_s - since_s


class _AgeMark(NamedTuple):
    """All faces up to this place were there at this time of the monotonic clock."""

    sequence: int
    steady_s: float


class FaceAges:
    """Knows for how long faces are held, by the monotonic clock.

    A wall clock may be set while faces wait: by years after a boot without a battery, by an hour by people.
    So places are noted with monotonic time, about once a second, and less often once there are many. For
    faces that were there at the start only the wall clock can tell. It is read once, as soon as it can be
    right, and their age is at least the time since the start.

    Args:
        last_sequence: the place of the newest face that is there at the start; 0 if there is none.
        steady_s: now, by the monotonic clock.
    """

    def __init__(self, last_sequence: int, steady_s: float) -> None:
        self._marks = deque([_AgeMark(last_sequence, steady_s)])
        self._fineness_s = _FINEST_S
        self._last_at_start = last_sequence
        self._started_s = steady_s
        self._wall_at_start_s: float | None = None

    def came(self, sequence: int, steady_s: float) -> None:
        """Note that all faces up to this place are there now."""
        if sequence <= self._marks[-1].sequence:
            return
        self._add(_AgeMark(sequence, steady_s))
        if len(self._marks) > _MOST_MARKS:
            self._fineness_s *= 2
            marks, self._marks = self._marks, deque([self._marks[0]])
            for mark in itertools.islice(marks, 1, None):
                self._add(mark)

    def oldest_s(self, sequence: int, held_since_s: float | None, wall_s: float, steady_s: float) -> float:
        """Return for how many seconds the oldest face is held, never less than 0.

        What was noted of earlier places is dropped.

        Args:
            sequence: its place.
            held_since_s: since when it is held according to its row, Unix time, or None.
            wall_s: what the wall clock shows.
            steady_s: now, by the monotonic clock.
        """
        while len(self._marks) > 1 and self._marks[0].sequence < sequence:
            self._marks.popleft()
        if len(self._marks) == 1:
            self._fineness_s = _FINEST_S
        here_s = max(0.0, steady_s - self._marks[0].steady_s)
        if sequence > self._last_at_start:
            return here_s
        return max(here_s, self._by_wall_clock(held_since_s, wall_s, steady_s))

    def _by_wall_clock(self, held_since_s: float | None, wall_s: float, steady_s: float) -> float:
        """Return its age by the wall clock as it was at the start, plus the monotonic time since then."""
        elapsed_s = steady_s - self._started_s
        if self._wall_at_start_s is None and waited_s(held_since_s, wall_s) is not None:
            self._wall_at_start_s = wall_s - elapsed_s
        if self._wall_at_start_s is None:
            return 0.0
        return waited_s(held_since_s, self._wall_at_start_s + elapsed_s) or 0.0

    def _add(self, mark: _AgeMark) -> None:
        """Add a mark; one soon after another is merged with it."""
        newest = self._marks[-1]
        if mark.steady_s - newest.steady_s < self._fineness_s and newest.sequence > self._last_at_start:
            self._marks[-1] = _AgeMark(mark.sequence, newest.steady_s)
        else:
            self._marks.append(mark)


AT_ONCE = 32
"""How many of each kind in one commit: even a full disk has room for that."""

_FIRST_RIGHT = times.compact(times.from_unix_s(RIGHT_SINCE_S))
_IS_TIME_KNOWN = f"instr(attributes, '{property_in_row(UNSYNCHRONISED)}') = 0"
_SINCE = {"faces": "held_since", "quarantine": "refused_at", "set_aside": "since"}


@dataclass(slots=True)
class Removed:
    """What was deleted.

    Attributes:
        ids: of faces that waited.
        apart: how many were in quarantine or set aside, by table.
    """

    ids: list[str] = field(default_factory=list)
    apart: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ids) or any(self.apart.values())

    def take(self, table: str, found: list[str]) -> None:
        """Add the ids of what was deleted from a table."""
        if table == "faces":
            self.ids += found
        else:
            self.apart[table] = self.apart.get(table, 0) + len(found)


def expire(connection: sqlite3.Connection, limit: datetime, now_s: float) -> Removed:
    """Delete some of what is older than a time, in all tables; call again while there is any.

    The time of a face is that of its frame, with which its id begins. If the camera did not know the time, or
    its clock showed a time before this program, or the id is damaged, what counts is since when the row is
    held; if that cannot be right either, it is held from now on.

    Args:
        connection: the spool's.
        limit: older faces are deleted, UTC.
        now_s: now, Unix time.
    """
    gone = Removed()
    for table, since in _SINCE.items():
        gone.take(table, _by_id(connection, table, limit))
        gone.take(table, _by_row(connection, table, since, limit, now_s))
    return gone


def is_expired(face_id: str, retention: Retention, now: datetime) -> bool:
    """Say whether a face is older than the retention, by its id."""
    limit = retention.limit(now)
    return limit is not None and face_id < times.compact(limit)


def _by_id(connection: sqlite3.Connection, table: str, limit: datetime) -> list[str]:
    """Delete by the time in the id, with an index."""
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
    """Delete by the time since when a row is held, of the oldest rows."""
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
    connection: sqlite3.Connection, table: str, which: str, values: Mapping[str, object]
) -> list[str]:
    """Delete rows; return their ids, which are empty for damaged rows that have none."""
    found = connection.execute(
        f"DELETE FROM {table} WHERE rowid IN ({which}) RETURNING CAST(id AS BLOB)",  # noqa: S608 - constants
        values,
    ).fetchall()
    return [(face_id or b"").decode(errors="replace") for (face_id,) in found]


def erase(connection: sqlite3.Connection, selection: Selection) -> Removed:
    """Delete some of what a selection takes, in all tables; call again while there is any.

    A damaged row may be of any person, and cannot be delivered: it is deleted with the first erasure.

    Args:
        connection: the spool's, within `database.overwriting`.
        selection: which faces.
    """
    where, values = _condition(selection)
    gone = Removed()
    for table in TABLES:
        damaged = f"reason = '{DAMAGED}' OR " if table == "set_aside" else ""
        which = f"SELECT rowid FROM {table} WHERE {damaged}({where}) LIMIT {AT_ONCE}"  # noqa: S608 - constants
        gone.take(table, _delete(connection, table, which, values))
    return gone


def _condition(selection: Selection) -> tuple[str, dict[str, str]]:
    """Return the SQL condition of rows that a selection takes, and its values; see `Selection.takes`."""
    values = {"topic": f"{ROOT}/{selection.device or '*'}/{selection.camera or '*'}/face"}
    parts = ["topic GLOB :topic"]
    if not selection.is_range:
        values["ids"] = json.dumps(sorted(selection.ids))
        # A visit's id has one spelling in the attributes, which no other attribute can have.
        values["visit"] = property_in_row(("visit", selection.visit)) if selection.visit is not None else ""
        of_visit = "OR instr(attributes, :visit) > 0" if selection.visit is not None else ""
        parts.append(f"(id IN (SELECT value FROM json_each(:ids)) {of_visit})")  # noqa: S608 - constants
    if selection.since is not None:
        values["since"] = times.compact(selection.since)
        parts.append("id >= :since")
    if selection.until is not None:
        values["until"] = times.compact(selection.until)
        parts.append("id < :until")
    return " AND ".join(parts), values
