"""Every command of our documents, typed where nothing can come of it.

A shell runs the blocks as they stand there, in a folder like a reader's. Programs of the system do what
they do. Ours, and those that ask others for something, only note how they were called, and that is held
against what they take.
"""

import importlib
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
import yaml

from services.cli import COMMANDS, SERVICES
from services.common.runtime.arguments import Parser
from services.common.runtime.variables import unknown
from tests.newcomer.documents import ROOT, blocks
from tests.unit.test_docs_names import FENCED, PAGES, is_module

DOCUMENTS = [str(page.relative_to(ROOT)) for page in PAGES if page.is_relative_to(ROOT / "docs")]
DOCUMENTS += ["README.md", "CONTRIBUTING.md"]
BLOCKS = {
    name: [one for kind in ("sh", "console", "bash") for one in blocks(name, language=kind)]
    for name in DOCUMENTS
}
OF_THE_SYSTEM = "cat cp cut grep gzip head id install ls mkdir mv printf rm sed tar"
OUTSIDE = re.compile(
    rf"(?:^|[|;&(]) *(?:{OF_THE_SYSTEM.replace(' ', '|')})\b[^|;&)\n]* /(?!dev/)|> ?/", re.MULTILINE
)
"""These would really be done: to files that are no reader's but this machine's."""
NOT_TRIED = {
    "age": "is another project's; tests/unit/test_sealing.py opens with pyrage what we have sealed",
    "aws": "needs an account at AWS",
    "docker buildx": "asks a registry",
    "docker run": "needs an engine; tests/containers/site.py makes passwords with the same program",
    "git": "needs the project's address; tests/newcomer/test_cloud_and_edge.py types it",
    "helm": "needs a cluster; tests/chart/test_chart.py renders the chart",
    "kubectl": "needs a cluster; tests/chart/test_api_server.py asks a real API server",
    "mosquitto_pub": "needs a broker; tests/system/test_up.py publishes a bare image",
    "mosquitto_sub": "needs a broker; tests/system/test_visits.py listens there",
    "openssl": "is not everywhere; tests/newcomer/test_cloud_and_edge.py types it",
    "scp": "needs a second machine",
    "su": "needs root; tests/newcomer/docker_user.py makes such a user",
    "useradd": "needs root; tests/newcomer/docker_user.py makes such a user",
}
"""Programs of which it is only noted that they were called, with the reason."""
OURS = ("curl", "docker", "faceferry", "pip", "pytest", "python", "python3")
NOTE = """{ printf '%s\\037' "$AT" "${name##*/}" "$PWD" "$@"; printf '\\036'; } >>"$CALLS";"""
SHELL = re.compile(r"^```(?:sh|console|bash)$.*?^```$", re.MULTILINE | re.DOTALL)
VALUED = {"-e", "-f", "-u", "-v", "--entrypoint", "--format", "--scale", "--timeout"}
"""Options of `docker compose` and its commands that a value follows."""
COMPOSE_COMMANDS = {"build", "down", "exec", "logs", "ps", "restart", "run", "up", "version"}
INLINE = re.compile(r"`((?:docker compose|faceferry|python3? -m|pytest|\./scripts/\w+) [^`]+)`")
NO_COMMAND = "`faceferry erasure log 1`"
"""What the signature of an entry begins with."""
INCOMPLETE = re.compile(r"expected|required|is wanted")
"""What a parser says of a sentence that leaves something out, or has NAME for a name."""
COMPOSE: dict[str, dict[str, list[str]]] = {
    name: service
    for path in (ROOT / "compose").rglob("*compose.yaml")
    for name, service in yaml.safe_load(path.read_text())["services"].items()
}


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A home with what our documents take for granted in it; it is a clone of the project as well."""
    for folder in ("secrets/devices", "spool", "scripts", "faces/dt=1970-01-01/device=porch", "programs"):
        (tmp_path / folder).mkdir(parents=True)
    for name in OF_THE_SYSTEM.split():
        (tmp_path / "programs" / name).symlink_to(shutil.which(name) or pytest.fail(f"there is no {name}"))
    for name in (".env", ".env.example", "calls", "repair.py", "secrets/devices/porch.tar"):
        (tmp_path / name).touch()
    (tmp_path / "faces/dt=1970-01-01/device=porch/face.json").write_text('{"clock": "unsynchronised"}')
    for name in ("porch.tar", "spool.tar"):
        with tarfile.open(tmp_path / name, "w") as archive:
            archive.add(tmp_path / ".env", "ca.crt")
    for example in ROOT.glob("compose/*/.env.example"):
        clone = tmp_path / "faceferry" / example.relative_to(ROOT)
        clone.parent.mkdir(parents=True)
        shutil.copy(example, clone)
    for script in (*ROOT.glob("scripts/*"), ROOT / "compose/cloud/s3-keys"):
        at = tmp_path / ("scripts" if script.parent.name == "scripts" else "faceferry/compose/cloud")
        (at / script.name).write_text(f"#!/bin/sh\nname=$0\n{NOTE}\n")
        (at / script.name).chmod(script.stat().st_mode)
    return tmp_path


def typed(scripts: Mapping[str, str], reader: Path) -> Iterator[tuple[str, str, Path, list[str]]]:
    """Type what stands at each place; yield the calls of programs: place, name, folder, words.

    Raises:
        AssertionError: the shell, or a program of the system, knows no such command, file or option.
    """
    noting = [
        f"{name}() {{ local name={name}; {NOTE} }}"
        for name in {*OURS, *(one.split()[0] for one in NOT_TRIED)}
    ]
    assert not [place for place, script in scripts.items() if OUTSIDE.search(script)]
    typing = [f"export AT={place}\n(\n:\n{script}\n)" for place, script in scripts.items()]
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join([*noting, *typing])],
        stdin=subprocess.DEVNULL,
        env={"PATH": str(reader / "programs"), "HOME": str(reader), "CALLS": str(reader / "calls")},
        cwd=reader,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr, f"{done.stderr}{typing}"
    for call in (reader / "calls").read_text().split("\x1e")[:-1]:
        place, name, folder, *words = call.split("\x1f")[:-1]
        yield place, name, Path(folder).relative_to(reader), words


def check(name: str, folder: Path, words: Sequence[str], *, is_whole: bool = True) -> None:
    """Hold a call against what the program takes."""
    if name in ("python", "python3"):
        check_python(words, is_whole=is_whole)
    elif name in ("faceferry", "up"):
        check_faceferry(["up", *words] if name == "up" else words, is_whole=is_whole)
    elif name == "docker":
        check_docker(words, folder, is_whole=is_whole)
    elif name in ("test", "pytest"):
        assert not [one for one in words if one.startswith("tests/") and not (ROOT / one).exists()]
    elif name == "pip":
        (extra,) = re.findall(r"\[(\w+)\]", words[-1])
        assert (
            extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        )
    elif name == "curl":
        path = re.sub(r"^https://[^/]+(/[^?]*).*", r"\1", words[-1])
        assert any(f'"{path}"' in one.read_text() for one in (ROOT / "services/gallery").glob("*.py")), path


def check_python(words: Sequence[str], *, is_whole: bool) -> None:
    if words[0] != "-m":
        compile(words[1] if words[0] == "-c" else "", "a command", "exec")
        return
    module, options = words[1], words[2:]
    if module == "services.cli":
        check_faceferry(options, is_whole=is_whole)
    elif module != "pytest":
        assert is_module(module), module
        sources = [ROOT.joinpath(*module.split(".")).with_suffix(".py")]
        sources += [sources[0].with_suffix("") / "__main__.py", *(ROOT / "benchmarks/report").glob("*.py")]
        text = "".join(path.read_text() for path in sources if path.is_file())
        assert not [one for one in options if one.startswith("--") and f'"{one}"' not in text], module


def check_faceferry(words: Sequence[str], *, is_whole: bool) -> None:
    name, *arguments = words
    if name in SERVICES or name == "--version":
        assert set(arguments) <= {"--help"}
        return
    assert name in COMMANDS, name
    parser, said = Parser(prog=name), StringIO()
    importlib.import_module(f"services.commands.{name.replace('-', '_')}").add_arguments(parser)
    try:
        with redirect_stderr(said):
            parser.read(list(arguments))
    except SystemExit:
        assert not is_whole, said.getvalue()
        assert INCOMPLETE.search(said.getvalue()), said.getvalue()


def check_docker(words: Sequence[str], folder: Path, *, is_whole: bool) -> None:
    if words[0] != "compose":
        assert f"docker {words[0]}" in NOT_TRIED
        return
    options, command, named = compose_line(words[1:])
    scaled = [value.partition("=")[0] for option, value in options if option == "--scale"]
    runs = command in {"exec", "run"}
    assert command in COMPOSE_COMMANDS
    assert {*scaled, *(named[:1] if runs else named)} <= COMPOSE.keys()
    files = [value for option, value in options if option == "-f"]
    assert all((ROOT / folder / file).exists() or is_compose_file(file) for file in files)
    if runs:
        program = [value for option, value in options if option == "--entrypoint"]
        program = program or (COMPOSE[named[0]].get("entrypoint", []) if command == "run" else [])
        name, *arguments = [*program, *named[1:]]
        check(name, folder, arguments, is_whole=is_whole)


def compose_line(words: Sequence[str]) -> tuple[list[tuple[str, str]], str, list[str]]:
    """Take it apart: options with a value, in order; the command; services and what is run in one."""
    options: list[tuple[str, str]] = []
    rest, command = list(words), ""
    while rest and (rest[0].startswith("-") or not command):
        word = rest.pop(0)
        if not word.startswith("-"):
            command = word
        elif word in VALUED and not (word == "-f" and command):
            options.append((word, rest.pop(0)))
    return options, command, rest


def is_compose_file(name: str) -> bool:
    return any((ROOT / "compose").glob(f"*/{name}"))


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if BLOCKS[name]])
def test_a_reader_can_type_each_block_of_our_documents(document: str, reader: Path) -> None:
    scripts = {block.place: "\n".join(block.commands()) for block in BLOCKS[document]}
    for place, name, folder, words in typed(scripts, reader):
        with said_at(place):
            check(name, folder, words)


def test_what_a_sentence_has_one_type_is_taken_too(reader: Path) -> None:
    texts = {document: FENCED.sub("", (ROOT / document).read_text()) for document in DOCUMENTS}
    scripts = {
        document: "\n".join(" ".join(one.split()) for one in INLINE.findall(text.replace(NO_COMMAND, "")))
        for document, text in texts.items()
    }
    for place, name, folder, words in typed(scripts, reader):
        with said_at(place):
            check(name, folder, words, is_whole=False)


@contextmanager
def said_at(place: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        error.add_note(place)
        raise


def test_no_command_is_in_a_block_that_is_not_tried() -> None:
    """Indented, or in a block that does not say that it is for a shell."""
    programs = "|".join([*OURS, *(one.split()[0] for one in NOT_TRIED), *OF_THE_SYSTEM.split(), r"\./\S+"])
    hidden = re.compile(rf"^( {{4,}}|```\w*\n)(FACEFERRY_\w+=\S+ )*({programs}) ", re.MULTILINE)
    texts = {name: SHELL.sub("", (ROOT / name).read_text()) for name in DOCUMENTS}
    assert [(name, found[0]) for name, text in texts.items() if (found := hidden.search(text))] == []


def test_what_is_not_tried_is_still_on_a_page() -> None:
    every = "\n".join(one for found in BLOCKS.values() for block in found for one in block.commands())
    assert [one for one in NOT_TRIED if not re.search(rf"\b{one}\b", every)] == []


def test_each_variable_and_compose_file_on_a_page_is_there() -> None:
    """FACEFERRY_CAMERA is there as what somebody meant to be FACEFERRY_CAMERAS."""
    texts = [(ROOT / document).read_text() for document in DOCUMENTS]
    named = {name for text in texts for name in re.findall(r"\bFACEFERRY_\w+[A-Z0-9]\b", text)}
    compose_files = {name for text in texts for name in re.findall(r"COMPOSE_FILE=([\w.:-]+)", text)}
    assert all(is_compose_file(name) for names in compose_files for name in names.split(":"))
    assert unknown(dict.fromkeys(named - {"FACEFERRY_CAMERA"}, "x")) == {}
