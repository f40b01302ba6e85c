"""The one screen of `faceferry status`."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from services.commands.status_facts import CameraState, LastFace, Status

_GREEN, _RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


MOST_LASTS = 12
"""As many as leave room on a screen; the newest."""


class _Mark(Protocol):
    def __call__(self, text: str, *, is_good: bool) -> str: ...


def screen(status: Status, *, is_coloured: bool) -> list[str]:
    """Return what is shown, line by line."""

    def mark(text: str, *, is_good: bool) -> str:
        return f"{_GREEN if is_good else _RED}{text}{_PLAIN}" if is_coloured else text

    def lines() -> Iterator[str]:
        devices = sorted({each.device for each in status.processes if each.device})
        yield f"Faceferry{': ' if devices else ''}{', '.join(devices)}"
        yield ""
        for process in status.processes:
            state = mark(f"{'ready' if process.is_ready else 'not ready':9}", is_good=process.is_ready)
            yield f"  {process.service:8} {process.address:24} {state} for {duration(process.up_s)}"
            for name, why in process.problems.items():
                yield f"           {name}: {why}"
        for address, why in status.unreachable.items():
            yield f"  {'?':8} {address:24} {mark('no answer', is_good=False)}: {why}"
        yield from _block("cameras", (_camera(each, mark) for each in status.cameras))
        yield from _block(
            "links",
            (
                f"{each.service:8} {each.link:16} {each.broker:28} "
                + mark("up" if each.is_up else "down", is_good=each.is_up)
                for each in status.links
            ),
        )
        yield from _block(
            "waiting",
            (
                f"{each.where:20} {each.faces:7} faces"
                + ("" if not each.faces or each.oldest_s is None else f", oldest {duration(each.oldest_s)}")
                + (f": {each.why}" if each.why else "")
                for each in status.waiting
            ),
        )
        yield from _block("last faces", (_last(each) for each in status.lasts[:MOST_LASTS]))
        if status.faces:
            yield from _block(
                "since then", [", ".join(f"{what} {count}" for what, count in status.faces.items())]
            )

    return list(lines())


def duration(seconds: float) -> str:
    """Return a time as people say it, in its two largest parts."""
    whole = int(seconds)
    parts = [
        (whole // 86_400, "d"),
        (whole % 86_400 // 3_600, "h"),
        (whole % 3_600 // 60, "min"),
        (whole % 60, "s"),
    ]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or unit == "s")


def _block(title: str, entries: Iterable[str]) -> Iterator[str]:
    found = list(entries)
    if found:
        yield ""
        yield title
        yield from (f"  {entry}" for entry in found)


def _last(each: LastFace) -> str:
    where = (
        "stored" if each.camera is None else f"{each.device}/{each.camera}" if each.device else each.camera
    )
    return f"{where:24} {duration(each.ago_s)} ago"


def _camera(each: CameraState, mark: _Mark) -> str:
    rates = (
        "" if each.frames_s is None else f", {each.frames_s:g} frames/s, {each.looked_at_s or 0:g} looked at"
    )
    where = f"{each.device}/{each.camera}" if each.device else each.camera
    why = f" ({each.why})" if each.why else ""
    return f"{where:24} {mark(each.state, is_good=each.is_well)}{why}{rates}"
