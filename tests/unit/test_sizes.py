"""How large modules and functions are, signs of what wants a split or a join; and what a join may break."""

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


def constants(text: str) -> list[str]:
    """Return the names in capitals that a module gives values to, as often as it does."""
    targets = [node.targets[0] for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]


def test_modules_of_services_are_read_in_one_sitting() -> None:
    lines = [len(text.splitlines()) for text in sources("services")]
    assert max(lines) <= 350
    assert 85 <= median(lines) <= 140


def test_functions_of_services_are_short() -> None:
    lines = [length for text in sources("services") for length in functions(text)]
    assert median(lines) <= 7
    assert quantiles(lines, n=10)[-1] <= 17


def test_no_module_has_two_constants_of_one_name() -> None:
    """The second one hides the first, where two modules were joined."""
    for folder in ("services", "benchmarks"):
        for text in sources(folder):
            names = constants(text)
            assert sorted(set(names)) == sorted(names)


def test_benchmarks_carry_claims_and_little_else() -> None:
    assert sum(len(text.splitlines()) for text in sources("benchmarks")) <= 3_200
