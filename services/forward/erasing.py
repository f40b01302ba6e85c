"""Faces that are to be erased, out of the spool's tables. The caller commits."""

import json
import sqlite3

from services.common.erasure.selection import Selection
from services.common.wire import times
from services.forward.expiry import AT_ONCE, Expired
from services.forward.rows import DAMAGED
from services.forward.spooled import property_in_row

TABLES = ("faces", "quarantine", "set_aside")


def erase(connection: sqlite3.Connection, selection: Selection) -> Expired:
    """Let go of some of what a selection takes, wherever it is; call again while there is any.

    A damaged row may be anybody's, and can go nowhere: it goes with whatever is erased first.

    Args:
        connection: the spool's; it overwrites what it deletes (`PRAGMA secure_delete`).
        selection: which.
    """
    where, values = _condition(selection)
    gone = Expired()
    for table in TABLES:
        damaged = f"reason = '{DAMAGED}' OR " if table == "set_aside" else ""
        found = connection.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table}"  # noqa: S608 - constants
            f" WHERE {damaged}({where}) LIMIT {AT_ONCE}) RETURNING CAST(id AS BLOB)",
            values,
        ).fetchall()
        gone.take(table, [(face_id or b"").decode(errors="replace") for (face_id,) in found])
    return gone


def _condition(selection: Selection) -> tuple[str, dict[str, str]]:
    """Return what holds for a row that a selection takes; see `Selection.takes`."""
    values = {"topic": f"faceferry/{selection.device or '*'}/{selection.camera or '*'}/face"}
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
