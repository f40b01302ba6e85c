"""The output of a run: the services' lines, merged, and a progress line below them."""

import errno
import json
import sys
from typing import TextIO

_COLOURS = {
    "capture": 36,
    "detect": 35,
    "forward": 33,
    "store": 32,
    "local": 34,
    "cloud": 34,
    "gallery": 32,
    "up": 37,
}
_LEVEL_COLOURS = {"warning": 33, "error": 31, "critical": 31}
_LEFT_OUT = {"service", "level", "timestamp", "event"}


def render(name: str, line: str, *, is_coloured: bool) -> str:
    """Return a service's line as text; a log event, which is JSON, becomes `event key=value`."""
    event = _parsed(line)
    level = ""
    if "event" in event:
        level = str(event.get("level", ""))
        details = " ".join(f"{key}={value}" for key, value in event.items() if key not in _LEFT_OUT)
        line = f"{event['event']} {details}".rstrip()
        if level in _LEVEL_COLOURS:
            line = f"{level}: {line}"
    if not is_coloured:
        return f"{name:8}| {line}"
    if level in _LEVEL_COLOURS:
        line = f"\x1b[{_LEVEL_COLOURS[level]}m{line}\x1b[0m"
    return f"\x1b[{_COLOURS.get(name, 37)}m{name:8}|\x1b[0m {line}"


def problem_of(line: str) -> str:
    """Return the message for the user in the last line of a service that could not start."""
    return str(_parsed(line).get("problem", line))


def ended_in(line: str) -> str | None:
    """Return the camera whose recording has ended, if a service's line says so, else None."""
    match _event(line, "capture.camera_offline"):
        case {"why": "ended", "camera": str(camera)}:
            return camera
    return None


def fallback_in(line: str) -> str | None:
    """Return a warning that another detector replaces YuNet, if a service's line says so, else None."""
    for detector in ("centerface", "haar"):
        match _event(line, f"detect.fallback_to_{detector}"):
            case {"problem": str(problem), "advice": str(advice)}:
                return f"faces are looked for by {detector}, for: {problem}; {advice}"
    return None


def _event(line: str, name: str) -> dict[str, object]:
    """Return a service's line as a log event; empty where it has another name."""
    event = _parsed(line) if name in line else {}
    return event if event.get("event") == name else {}


def _parsed(line: str) -> dict[str, object]:
    """Return a line's JSON object; empty where it is not one."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


class Console:
    """Writes lines to a stream and, on a terminal, keeps one progress line below them."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty()
        self._progress = ""
        self._final_warning = ""

    def line(self, name: str, line: str) -> None:
        """Write a line of a service."""
        text = render(name, line, is_coloured=self.is_terminal)
        self._write(f"\r\x1b[K{text}\n{self._progress}" if self._progress else f"{text}\n")

    def progress(self, text: str) -> None:
        """Replace the progress line, on a terminal only."""
        if self.is_terminal and text != self._progress:
            self._write(f"\r\x1b[K{text}")
            self._progress = text

    def repeat_at_the_end(self, warning: str) -> None:
        """Keep a warning to be repeated at the end, where it is not lost among hundreds of lines."""
        self._final_warning = warning

    def say_final_warning(self) -> None:
        """Write the warning that was kept for the end, if any."""
        if self._final_warning:
            self.line("up", f"warning: {self._final_warning}")

    def close(self) -> None:
        """End the progress line."""
        if self._progress:
            self._write("\n")
            self._progress = ""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            # The terminal was closed. Its error must not keep the run from stopping its services.
            if error.errno != errno.EIO:
                raise
