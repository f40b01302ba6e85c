"""Faces that are too old, or are to be erased, go out of the spool's tables. The caller commits."""

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
"""2025-01-01, Unix time: a clock that shows less has not been set, for this program is younger."""
_FINEST_S = 1.0
_MOST_MARKS = 4_096


def waited_s(since_s: float | None, wall_s: float) -> float | None:
    """Return how long ago something was by the wall clock, or None where one of the two times is none.

    Args:
        since_s: when it was, as the wall clock of that time had it, Unix time.
        wall_s: what it shows now.
    """
    if since_s is None or not RIGHT_SINCE_S <= since_s <= wall_s:
        return None
    return wall_s - since_s


class _AgeMark(NamedTuple):
    """Up to this place all that is held was there at this moment of the steady clock."""

    sequence: int
    steady_s: float


class FaceAges:
    """Knows for how long faces are held, by the steady clock.

    A wall clock is set while faces wait: by years after a boot without a battery, by an hour by people.
    So what comes in is remembered by place and steady time, about each second, coarser when it becomes much.
    Of what was there at the start only the wall clock can tell how long it has been; it is believed once, as
    soon as it can be right, and never less is said than since the start.

    Args:
        last_sequence: the place of the newest face that is there at the start; 0 if there is none.
        steady_s: now.
    """

    def __init__(self, last_sequence: int, steady_s: float) -> None:
        self._marks = deque([_AgeMark(last_sequence, steady_s)])
        self._fineness_s = _FINEST_S
        self._last_at_start = last_sequence
        self._started_s = steady_s
        self._wall_at_start_s: float | None = None

    def came(self, sequence: int, steady_s: float) -> None:
        """Note that what stands up to this place is there now."""
        if sequence <= self._marks[-1].sequence:
            return
        self._add(_AgeMark(sequence, steady_s))
        if len(self._marks) > _MOST_MARKS:
            self._fineness_s *= 2
            marks, self._marks = self._marks, deque([self._marks[0]])
            for mark in itertools.islice(marks, 1, None):
                self._add(mark)

    def oldest_s(self, sequence: int, held_since_s: float | None, wall_s: float, steady_s: float) -> float:
        """Return for how long the oldest face is held, in seconds, never below 0.

        What stood before it is forgotten.

        Args:
            sequence: its place.
            held_since_s: since when its row says, Unix time.
            wall_s: what the wall clock shows.
            steady_s: now.
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
        """Return how long ago it was by the wall clock at the start, moved on by the steady one since."""
        elapsed_s = steady_s - self._started_s
        if self._wall_at_start_s is None and waited_s(held_since_s, wall_s) is not None:
            self._wall_at_start_s = wall_s - elapsed_s
        if self._wall_at_start_s is None:
            return 0.0
        return waited_s(held_since_s, self._wall_at_start_s + elapsed_s) or 0.0

    def _add(self, mark: _AgeMark) -> None:
        """Add a mark; what comes soon after another counts as come with it."""
        newest = self._marks[-1]
        if mark.steady_s - newest.steady_s < self._fineness_s and newest.sequence > self._last_at_start:
            self._marks[-1] = _AgeMark(mark.sequence, newest.steady_s)
        else:
            self._marks.append(mark)


AT_ONCE = 32
"""Of each kind, in one commit: even on a disk that is full there is room for that."""

_FIRST_RIGHT = times.compact(times.from_unix_s(RIGHT_SINCE_S))
_IS_TIME_KNOWN = f"instr(attributes, '{property_in_row(UNSYNCHRONISED)}') = 0"
_SINCE = {"faces": "held_since", "quarantine": "refused_at", "set_aside": "since"}


@dataclass(slots=True)
class Removed:
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


def expire(connection: sqlite3.Connection, limit: datetime, now_s: float) -> Removed:
    """Let go of some of what is older than a time, wherever it is; call again while there is any.

    Whose frame was taken before it goes by its id, which begins with the time. Where the camera did not know
    the time, where its clock had not been set and showed years ago, and where the id is damaged, what counts
    is since when the row is there; where not even that can be right, it counts from now on.

    Args:
        connection: the spool's.
        limit: whatever is older goes, UTC.
        now_s: now, Unix time.
    """
    gone = Removed()
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
    connection: sqlite3.Connection, table: str, which: str, values: Mapping[str, object]
) -> list[str]:
    """Delete rows; return their ids, empty ones of damaged rows that have none."""
    found = connection.execute(
        f"DELETE FROM {table} WHERE rowid IN ({which}) RETURNING CAST(id AS BLOB)",  # noqa: S608 - constants
        values,
    ).fetchall()
    return [(face_id or b"").decode(errors="replace") for (face_id,) in found]


def erase(connection: sqlite3.Connection, selection: Selection) -> Removed:
    """Let go of some of what a selection takes, wherever it is; call again while there is any.

    A damaged row may be anybody's, and can go nowhere: it goes with whatever is erased first.

    Args:
        connection: the spool's; it overwrites what it deletes (`PRAGMA secure_delete`).
        selection: which.
    """
    where, values = _condition(selection)
    gone = Removed()
    for table in TABLES:
        damaged = f"reason = '{DAMAGED}' OR " if table == "set_aside" else ""
        which = f"SELECT rowid FROM {table} WHERE {damaged}({where}) LIMIT {AT_ONCE}"  # noqa: S608 - constants
        gone.take(table, _delete(connection, table, which, values))
    return gone


def _condition(selection: Selection) -> tuple[str, dict[str, str]]:
    """Return what holds for a row that a selection takes; see `Selection.takes`."""
    values = {"topic": f"{ROOT}/{selection.device or '*'}/{selection.camera or '*'}/face"}
    parts = ["topic GLOB :topic"]
    if not selection.is_range:
        values["ids"] = json.dumps(sorted(selection.ids))
        # A visit's name stands in the attributes in one spelling only, and in no other attribute's place.
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
