"""What docs/cameras.md says against what the code understands."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from services.capture.cameras import SCHEMES, parse_camera
from services.capture.options import Options
from services.common.errors import SetupError

PAGE = (Path(__file__).parents[2] / "docs" / "cameras.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `")]
NAMES = {field.name for field in fields(Options)}
_LINE = re.compile(r"[a-z0-9-]+=(?:exec:|[a-z][a-z0-9+.-]*://).*")


def word(cell: str) -> str:
    return cell.strip().strip("`")


def examples(text: str) -> list[str]:
    """Every camera that a text shows, in a line of its own or between backticks."""
    shown = (*text.splitlines(), *re.findall(r"`([^`]+)`", text))
    return [line for line in shown if _LINE.fullmatch(line)]


EXPLAINED = {word(row[0]): examples(row[1]) for row in ROWS if len(row) == 3}
TAKEN = {word(name): [bool(cell.strip()) for cell in cells] for name, *cells in ROWS if len(cells) > 2}


@pytest.mark.parametrize("text", sorted(set(examples(PAGE))))
def test_each_example_is_a_camera(text: str) -> None:
    parse_camera(text)


def test_each_scheme_and_each_option_is_explained_with_an_example_of_its_own() -> None:
    assert EXPLAINED.keys() == {*SCHEMES, *NAMES}
    for scheme in SCHEMES:
        assert {parse_camera(text).scheme for text in EXPLAINED[scheme]} == {scheme}
    for option in NAMES:
        assert all(f"?{option}=" in text for text in EXPLAINED[option])
        assert EXPLAINED[option]


def test_the_page_says_which_source_takes_which_option() -> None:
    header = next(line for line in PAGE.splitlines() if line.startswith("| option | `v4l2`"))
    assert tuple(map(word, header.strip("|").split("|")[1:])) == SCHEMES
    assert {option: [_takes(scheme, option) for scheme in SCHEMES] for option in NAMES} == TAKEN


def _takes(scheme: str, option: str) -> bool:
    camera = EXPLAINED[scheme][0].partition("?")[0].strip()
    separator = " ?" if scheme == "exec" else "?"
    values = [text.partition(f"{option}=")[2] for text in EXPLAINED[option]]
    return any(_is_camera(f"{camera}{separator}{option}={value}") for value in values)


def _is_camera(text: str) -> bool:
    try:
        parse_camera(text)
    except SetupError:
        return False
    return True
