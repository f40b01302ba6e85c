"""Where a run on this machine keeps things, for whoever looks at them later."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from services.common.errors import SetupError


def state_folder(url: str, environment: Mapping[str, str]) -> Path:
    """Return the folder of the runs into one store.

    Raises:
        SetupError: nobody knows where this user is at home.
    """
    try:
        home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise SetupError(
            "neither XDG_STATE_HOME nor HOME is set: a run has to keep faces somewhere"
        ) from None
    return Path(home) / "faceferry" / f"up-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
