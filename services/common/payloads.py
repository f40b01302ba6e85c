"""JSON as messages carry it."""

import json

from services.common.errors import Refused


def to_json(body: object) -> bytes:
    """Return a message's body, without a byte too many."""
    return json.dumps(body, separators=(",", ":")).encode()


def from_json(payload: bytes) -> object:
    """Read a message's body, of which nothing is known yet.

    Raises:
        Refused: `bad_json`.
    """
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_json", str(error)) from error
