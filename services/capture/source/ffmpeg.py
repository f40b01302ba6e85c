"""Which ffmpeg is used: the first that can do what our command lines ask of it."""

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.capture.source.child import AskFailed, ask
from services.common.errors import SetupError

LEAST = (5, 1)
"""The first with `-fps_mode`. Before 5.0 `-timeout` of an RTSP input means: be the server, and wait."""

_WANTED = "ffmpeg {}.{} or newer is wanted".format(*LEAST)
_TIMEOUT_S = 4.0
_BANNER = re.compile(r"^ffmpeg version (\S{1,80})", re.MULTILINE)
# 4.4.2-0ubuntu0.22.04.1, 5.1.6-0+deb12u1, n6.0, 7.0.2-static; but N-12345-gabcdef, 2024-01-01-git-abcdef
# and n5.1-dev-123-gabcdef cannot be compared.
_RELEASE = re.compile(r"n?(\d{1,2})\.(\d{1,3})(?!\d)")
_UNRELEASED = re.compile(r"git|dev|-g[0-9a-f]{7}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """The ffmpeg to use.

    Attributes:
        program: its path.
        version: as the program reports it.
        passed_over: the programs before it that cannot be used, each with the reason.
    """

    program: str
    version: str
    passed_over: tuple[str, ...] = ()


def find_ffmpeg(named: Path | None = None) -> str:
    """Return the path of the ffmpeg to use; see `choose_ffmpeg`."""
    return choose_ffmpeg(named).program


def choose_ffmpeg(named: Path | None = None) -> Ffmpeg:
    """Return the ffmpeg that is named, else the first good one on PATH, else imageio-ffmpeg's.

    Blocks for as long as the programs take to answer, and for at most ten seconds each.

    Raises:
        SetupError: none can be used; one line that says which were found and how new one must be.
    """
    if named is not None:
        return _named(named)
    passed_over: list[str] = []
    for program in _candidates():
        version, problem = _judge(program)
        if not problem:
            return Ffmpeg(program, version, tuple(passed_over))
        passed_over.append(problem)
    if passed_over:
        raise SetupError(f"{_WANTED}: {'; '.join(passed_over)}; `pip install imageio-ffmpeg` brings one")
    raise SetupError(f"ffmpeg is not installed: `apt-get install ffmpeg`; {_WANTED}")


def named_in(environment: Mapping[str, str]) -> Path | None:
    """Return the program that `FACEFERRY_FFMPEG` names, for commands that do not read capture's settings."""
    return Path(named) if (named := environment.get("FACEFERRY_FFMPEG")) else None


def has_filter(ffmpeg: str, name: str) -> bool:
    """Say whether an ffmpeg has a filter; False if it does not answer. Blocks."""
    try:
        _status, listed = ask([ffmpeg, "-hide_banner", "-loglevel", "error", "-filters"], _TIMEOUT_S)
    except AskFailed:
        return False
    return f" {name} " in listed


def parse_version(version: str) -> tuple[int, int] | None:
    """Return a release's two numbers, or None for what was built between releases."""
    found = _RELEASE.match(version)
    if found is None or _UNRELEASED.search(version):
        return None
    return int(found[1]), int(found[2])


def _named(named: Path) -> Ffmpeg:
    if (program := shutil.which(str(named))) is None:
        raise SetupError(f"FACEFERRY_FFMPEG: {named} is no program")
    version, problem = _judge(program)
    if problem:
        raise SetupError(f"FACEFERRY_FFMPEG: {problem}; {_WANTED}")
    return Ffmpeg(program, version)


def _candidates() -> Iterator[str]:
    """Yield each program that may be used, once, however many names it has."""
    named = (shutil.which("ffmpeg", path=folder) for folder in os.get_exec_path())
    places = {Path(program).resolve(): program for program in (*named, *_bundled()) if program is not None}
    yield from places.values()


def _bundled() -> list[str | None]:
    """Return imageio-ffmpeg's program. The package itself would try others, and wait for them."""
    package = importlib.util.find_spec("imageio_ffmpeg")
    folders = (package and package.submodule_search_locations) or []
    return [
        shutil.which(str(path))
        for folder in folders
        for path in sorted(Path(folder).glob("binaries/ffmpeg-*"))
    ]


@functools.cache
def _judge(program: str) -> tuple[str, str]:
    """Return a program's version, and why it cannot be used; empty: it can."""
    try:
        status, said = ask([program, "-version"], _TIMEOUT_S)
        if status != 0:
            return "", f"{program} ends with status {status}: {_last_line(said)}"
        if (banner := _BANNER.search(said)) is None:
            return "", f"{program} is no ffmpeg"
        release = parse_version(banner[1])
        is_new_enough = _knows_fps_mode(program) if release is None else release >= LEAST
    except AskFailed as error:
        return "", f"{program} {error}"
    return banner[1], "" if is_new_enough else f"{program} is {banner[1]}, too old"


def _knows_fps_mode(program: str) -> bool:
    _status, said = ask([program, "-nostdin", "-hide_banner", "-fps_mode", "passthrough"], _TIMEOUT_S)
    return "Unrecognized option" not in said


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "not a word"
