"""How large modules and functions are: signs of what wants a split, or a join, before it is too late."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[2]


def sources(folder: str) -> list[str]:
    """Return the texts of a folder's modules, without the empty ones that only make a package."""
    return [text for path in sorted((ROOT / folder).rglob("*.py")) if (text := path.read_text()).strip()]


def functions(text: str) -> Iterator[int]:
    """Yield the lines of each function of a module, its signature and docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_of_services_are_read_in_one_sitting() -> None:
    lines = [len(text.splitlines()) for text in sources("services")]
    assert max(lines) <= 350
    assert 85 <= median(lines) <= 140


def test_functions_of_services_are_short() -> None:
    lines = [length for text in sources("services") for length in functions(text)]
    assert median(lines) <= 7
    assert quantiles(lines, n=10)[-1] <= 17


def test_benchmarks_carry_claims_and_little_else() -> None:
    assert sum(len(text.splitlines()) for text in sources("benchmarks")) <= 3_200
