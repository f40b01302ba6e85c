"""The wall clock of processes, set by libfaketime."""

from pathlib import Path


class Clock:
    """The wall clock of some child processes, set by libfaketime while they run.

    Their monotonic clocks go on as they are, like a host's when somebody sets its date.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.library = _find()
        self.set_days(0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see this clock."""
        if self.library is None:
            return {}
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            # Without it a wait on a condition, such as that for the interpreter's lock, takes milliseconds.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def set_days(self, days: int) -> None:
        """Step the clock so many days away from the true time; replaced whole, for it may be read now."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.replace(self._path)


def _find() -> Path | None:
    found = [
        *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
        Path("/usr/lib/faketime/libfaketime.so.1"),
    ]
    return next((path for path in found if path.exists()), None)


def tidy(before: set[Path]) -> None:
    """Remove what killed processes could not: their shared memory."""
    for path in traces() - before:
        pid = path.name.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


def traces() -> set[Path]:
    """Return the shared memory that there is of it."""
    return set(Path("/dev/shm").glob("*faketime_*_*"))  # noqa: S108 - it is libfaketime's choice
