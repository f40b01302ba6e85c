"""The errors that all services share, and reasons of refusal."""

import re
from collections.abc import Iterable


class FaceferryError(Exception):
    """The root of this project's errors."""


class SetupError(FaceferryError):
    """Something that only the user can repair: shown in one line, exit status 2."""


MAY_BE_ALIKE = 0.65
"""The least ratio of similarity (`difflib`) at which a word may be another one misspelt."""


def nearest(word: str, words: Iterable[str], least: float = MAY_BE_ALIKE) -> str | None:
    """Return the word most similar to `word`, or None if none has at least the ratio `least`."""
    import difflib  # noqa: PLC0415 - every service imports this module, and seldom needs this

    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=least)), None)


def did_you_mean(word: str, words: Iterable[str], prefix: str = "") -> str:
    """Return the end of a message about a word that is unknown: which other may have been meant.

    Args:
        word: as it was given.
        words: those that there are.
        prefix: is put before the one that is named.

    Returns:
        `, did you mean {prefix}{other}?`, or `""` where none is like it.
    """
    near = nearest(word, words)
    return f", did you mean {prefix}{near}?" if near and near != word else ""


_REASON = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)


def is_reason(text: object) -> bool:
    """Return whether `text` may be a reason of refusal: it becomes a label, and may come over the network."""
    return isinstance(text, str) and _REASON.fullmatch(text) is not None


class Refused(FaceferryError):
    """A message that can never be accepted, however often it is sent.

    Args:
        reason: a short constant such as `id_mismatch`; a metric label, part of the protocol.
        detail: what exactly is wrong, for the log; never bytes of the payload.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
