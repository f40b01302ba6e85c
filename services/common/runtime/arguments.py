"""Command lines, and the kinds of arguments on them; a wrong one is an error in one line, status 2."""

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import NoReturn, TypeVar

from services.common.errors import did_you_mean
from services.common.runtime.addresses import mqtt_url
from services.common.runtime.lifecycle import EXIT_SETUP
from services.common.runtime.settings import shown
from services.common.wire.topics import is_name

T = TypeVar("T")
MOST_DIGITS = 15


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line; `--help` shows what there is."""

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Read a command line, its options anywhere; a misspelt one is named with the one that was meant."""
        try:
            options, unknown = self.parse_known_intermixed_args(arguments)
        except TypeError:  # with commands of its own: theirs come behind them
            options, unknown = self.parse_known_args(arguments)
        if unknown:
            meant = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"there is no argument {unknown[0]}{meant}")
        return options

    def error(self, message: str) -> NoReturn:
        """End with what is wrong, in one line."""
        self.exit(EXIT_SETUP, f"{self.prog}: error: {shown(message)} (see {self.prog} --help)\n")


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser for argparse that passes on what `parse` says in its ValueError."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from None

    return read


def wanted(what: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser for argparse that says what is wanted where `parse` raises ValueError."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError:
            raise ValueError(f"{what} is wanted") from None

    return checked(read)


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least` to `most`, both included."""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS):
            raise ValueError
        if not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return wanted(f"a whole number from {least} to {most}", parse)


def seconds(most: float, *, may_be_none: bool = False) -> Callable[[str], float]:
    """Return a parser of times in seconds, up to `most`; 0 only where it `may_be_none`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (0 < value <= most or (may_be_none and value == 0)):
            raise ValueError
        return value

    return wanted(f"a number of seconds {'from' if may_be_none else 'above'} 0 to {most:.0f}", parse)


def matching(what: str, is_one: Callable[[str], bool]) -> Callable[[str], str]:
    """Return a parser of texts for which `is_one` holds; `what` names them in the error."""

    def parse(text: str) -> str:
        if not is_one(text):
            raise ValueError
        return text

    return wanted(what, parse)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _is_host(text: str) -> bool:
    return bool(text) and text.isprintable() and not set(text) & set("/@?# ")


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65_536
    return _is_host(host) and is_port


port = whole(0, 65_535)
name = matching("a name (lower-case letters, digits and '-', at most 63)", is_name)
day = wanted("a day such as 2026-01-31", date.fromisoformat)
time = wanted("a time such as 2026-01-31 or 2026-01-31T12:30, UTC,", _time)
host = matching("a host's name or address", _is_host)
address = matching("HOST:PORT", _is_address)
broker = wanted("a broker's address such as mqtt://127.0.0.1:1883", mqtt_url)
