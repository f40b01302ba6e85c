"""Files, modules and headings that our documents, comments and docstrings name are there."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "compose", "deploy", "docs", "requirements", "scripts", "services", "tests")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
FILES = [path for path in FILES if not {"node_modules", "__pycache__"} & {*path.parts}]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(path for path in FILES if path.suffix == ".md")]
OTHERS = [path for path in FILES if path.suffix not in {".gz", ".md"} and path != Path(__file__)]
TEXTS = [*PAGES, *OTHERS, ROOT / "pyproject.toml", ROOT / ".ci/run"]
PATH = re.compile(rf"(?<![\w./@:=-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
MODULE = re.compile(r"(?<![\w./\"-])(?:benchmarks|services|tests)(?:\.(?!md\b)[a-z_]\w*)+")
PROGRAM = re.compile(r"`([\w/]+\.py)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MADE_LATER = re.compile(r"compose/\w+/(secrets|\.env)\b")
IN_A_TEST_S_TEXT = {"tests/x"}


def found(pattern: re.Pattern[str], texts: list[Path]) -> Iterator[tuple[Path, str, str]]:
    """Yield in which file something stands, at which place, and what stands there."""
    for path in texts:
        text = read(path)
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield path, f"{path.relative_to(ROOT)}:{line}", match[match.lastindex or 0]


@cache
def read(path: Path) -> str:
    return path.read_text(errors="replace")


def is_there(name: str, page: Path) -> bool:
    """Whether a path is, seen from the project's folder or the page's; a decision may go by its number."""
    places = (ROOT / name, page.parent / name, *ROOT.glob(f"{name}-*"))
    return name in IN_A_TEST_S_TEXT or bool(MADE_LATER.match(name)) or any(map(Path.exists, places))


@cache
def is_module(name: str) -> bool:
    """Whether it is a module or package, or is named in one."""
    *packages, last = name.split(".")
    above = source_of(ROOT.joinpath(*packages))
    within = above is not None and re.search(rf"\b{last}\b", read(above)) is not None
    return within or source_of(ROOT.joinpath(*packages, last)) is not None


def source_of(path: Path) -> Path | None:
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = HEADING.findall(FENCED.sub("", read(page)))
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_path_that_is_named_is_there() -> None:
    named = found(PATH, TEXTS)
    assert [(place, name) for page, place, name in named if not is_there(name, page)] == []


def test_every_module_that_is_named_is_there() -> None:
    """In Python `services.x` may be a variable's."""
    named = [
        (place, name)
        for path, place, name in found(MODULE, TEXTS)
        if path.suffix != ".py" or name.count(".") > 1
    ]
    assert [one for one in named if not is_module(one[1])] == []


def test_every_program_that_a_page_names_by_its_end_is_there() -> None:
    programs = [f"/{path}" for path in FILES if path.suffix == ".py"]
    named = [(place, name) for _page, place, name in found(PROGRAM, PAGES)]
    assert [one for one in named if not any(path.endswith(f"/{one[1]}") for path in programs)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for _page, place, link in found(LINK, [page]):
        name, _, anchor = unquote(link).partition("#")
        target = page.parent / name if name else page
        assert "://" in link or target.exists(), f"{place}: {link}"
        assert "://" in link or not anchor or anchor in anchors(target), f"{place}: {link}"
