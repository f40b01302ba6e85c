"""The commands that our documents tell people to type, to be run as they stand there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<language>\w*)$")
_HEADING = re.compile(r"^#{1,6} (?P<title>.*)$")
_HERE_DOCUMENT = re.compile(r"<<-?\s*'?(?P<end>\w+)'?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        place: `docs/install.md:27`, where its first line is.
        heading: the nearest heading above it.
        language: `sh`, `console`, ...; nothing where none is named.
        text: its lines, each with its end.
    """

    place: str
    heading: str
    language: str
    text: str

    def exchanged(self, *pairs: tuple[str, str]) -> Self:
        """Return it with what stands for a reader's own thing exchanged: (`cloud.example.org`, `localhost`).

        Raises:
            ValueError: the document does not say that (any more).
        """
        text = self.text
        for theirs, ours in pairs:
            if theirs not in text:
                raise ValueError(f"{self.place}: {theirs!r} does not stand there (any more)")
            text = text.replace(theirs, ours)
        return replace(self, text=text)

    def commands(self) -> list[str]:
        """Return the commands one by one: with what continues them, a here-document included.

        Of a `console` block those are what stands behind `$ `; the rest of it is what was answered. Lines
        that are nothing but a comment are left out.
        """
        lines = iter(self.text.splitlines(keepends=True))
        if self.language == "console":
            lines = iter([line.removeprefix("$ ") for line in lines if line.startswith("$ ")])
        return list(_commands(lines))


def blocks(document: str, *, language: str = "sh", heading: str | None = None) -> list[Block]:
    """Return a document's blocks in a language, in order.

    Args:
        document: its path in the project, `docs/install.md`.
        language: as the fence names it.
        heading: only those that stand right below this heading (not below one of its subheadings).
    """
    text = (ROOT / document).read_text()
    return [
        block
        for block in parse(text, document)
        if block.language == language and heading in (None, block.heading)
    ]


def block(document: str, containing: str, *, language: str = "sh", heading: str | None = None) -> Block:
    """Return the one block that contains a text.

    Raises:
        ValueError: none does, or several do.
    """
    found = [one for one in blocks(document, language=language, heading=heading) if containing in one.text]
    if len(found) != 1:
        raise ValueError(f"{document}: {len(found)} blocks contain {containing!r}")
    return found[0]


def command(document: str, beginning: str, *, language: str = "sh") -> str:
    """Return the one command of a document that begins so.

    Raises:
        ValueError: none does, or several do.
    """
    every = [one for each in blocks(document, language=language) for one in each.commands()]
    found = [one for one in every if one.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(f"{document}: {len(found)} commands begin with {beginning!r}")
    return found[0]


def parse(text: str, name: str) -> Iterator[Block]:
    """Yield the fenced blocks of a text in Markdown; one that is not closed ends with the text."""
    heading, opened, language = "", 0, ""
    inside: list[str] = []
    for number, line in enumerate([*text.splitlines(keepends=True), "```\n"], start=1):
        fence = _FENCE.match(line.rstrip("\n"))
        if opened and fence:
            yield Block(f"{name}:{opened + 1}", heading, language, "".join(inside))
            opened = 0
        elif opened:
            inside.append(line)
        elif fence:
            opened, language, inside = number, fence["language"], []
        elif title := _HEADING.match(line.rstrip("\n")):
            heading = title["title"]


def _commands(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        command = line
        while command.endswith("\\\n"):
            command += next(lines, "")
        if end := _HERE_DOCUMENT.search(line):
            for further in lines:
                command += further
                if further.strip() == end["end"]:
                    break
        yield command.rstrip("\n")
