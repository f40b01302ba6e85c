"""What `faceferry` says of arguments that cannot be meant: one line that names them, and status 2."""

from pathlib import Path

import pytest

from services.commands import up
from services.common.runtime.arguments import Parser
from services.common.sealing.age import new_identity
from tests.support import faceferry

WRONG = {
    "faces --limit -1": "argument --limit: a whole number from 0 to 999999999 is wanted, not '-1'",
    "faces --limit 1.5": "argument --limit: a whole number from 0 to 999999999 is wanted, not '1.5'",
    "faces --limt 3": "there is no argument --limt, did you mean --limit?",
    "index --days 0": "argument --days: a whole number from 1 to 36500 is wanted, not '0'",
    "index --days -3": "argument --days: a whole number from 1 to 36500 is wanted, not '-3'",
    "index --from yesterday": "argument --from: a day such as 2026-01-31 is wanted, not 'yesterday'",
    "cameras --wait nan": "argument --wait: a number of seconds from 0 to 60 is wanted, not 'nan'",
    "cameras --wait -1": "argument --wait: a number of seconds from 0 to 60 is wanted, not '-1'",
    "cameras --wait soon": "argument --wait: a number of seconds from 0 to 60 is wanted, not 'soon'",
    "cameras --host a/b": "argument --host: a host's name or address is wanted, not 'a/b'",
    "cameras --interface none0": "argument --interface: one of this machine's (",
    "cameras --port 99999": "argument --port: a whole number from 0 to 65535 is wanted, not '99999'",
    "check-client store --timeout -1": "argument --timeout: a number of seconds above 0 to 86400 is wanted",
    "check-client store --timeout nan": "argument --timeout: a number of seconds above 0 to 86400 is wanted",
    "check-client store --port -1": "argument --port: a whole number from 0 to 65535 is wanted, not '-1'",
    "check-client store --broker localhost": "argument --broker: a broker's address such as mqtt://",
    "check-client store --device Porch": "argument --device: a name (lower-case letters, digits and '-'",
    "check-client everything": "argument plays: invalid choice: 'everything'",
    "erase --settle -1": "argument --settle: a number of seconds from 0 to 86400 is wanted, not '-1'",
    "erase --settle inf": "argument --settle: a number of seconds from 0 to 86400 is wanted, not 'inf'",
    "erase --from noon": "argument --from: a time such as 2026-01-31 or 2026-01-31T12:30, UTC, is wanted",
    "erase --device Porch": "argument --device: a name (lower-case letters, digits and '-', at most 63)",
    "erase --visit 7": "argument --visit: a visit's id is wanted, not '7'",
    "erase face": "argument ID: a face's id is wanted, not 'face'",
    "pki --owner 1:x init --host a": "argument --owner: numbers are wanted, UID:GID, not '1:x'",
    "pki revoke porch --serial -5": "argument --serial: a hexadecimal number is wanted, not '-5'",
    "pki revoke porch --serial 0x5": "argument --serial: a hexadecimal number is wanted, not '0x5'",
    "retain --check --days 0": "argument --days: a number of days from 1 to 36500 is wanted, or forever",
    "status localhost": "argument HOST:PORT: HOST:PORT is wanted, not 'localhost'",
    "status 127.0.0.1:0": "argument HOST:PORT: HOST:PORT is wanted, not '127.0.0.1:0'",
    "up --timeout -1": "argument --timeout: a number of seconds above 0 to 1000000 is wanted, not '-1'",
    "up --timeout 0": "argument --timeout: a number of seconds above 0 to 1000000 is wanted, not '0'",
    "up --detector yolo": "argument --detector: invalid choice: 'yolo'",
    "up --onec": "there is no argument --onec, did you mean --once?",
}


@pytest.mark.parametrize("words", WRONG)
def test_an_argument_that_cannot_be_meant_is_named_in_one_line_with_status_2(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        faceferry(*words.split())
    said = capsys.readouterr()
    assert (ended.value.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith(f"faceferry {words.split(maxsplit=1)[0]}")
    assert WRONG[words] in said.err
    assert "_" not in said.err  # no name out of our code


def test_sources_and_options_of_up_may_stand_in_any_order() -> None:
    parser = Parser()
    up.add_arguments(parser)
    for words in ("a.mp4 b=c.mp4 --once", "--once a.mp4 b=c.mp4", "a.mp4 --once b=c.mp4"):
        options = parser.read([*words.split(), "--source", "d.mp4"])
        assert (options.sources, options.source, options.once) == (["a.mp4", "b=c.mp4"], ["d.mp4"], True)
    assert parser.read([]).sources == []


def test_a_misspelt_command_is_named_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert faceferry("face") == 2
    assert "there is no command 'face', did you mean faces?" in capsys.readouterr().err


def test_an_index_of_days_that_end_before_they_begin_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert faceferry("index", "--from", "2026-02-01", "--to", "2026-01-31") == 2
    assert capsys.readouterr().err == "faceferry: --from 2026-02-01 is after --to 2026-01-31\n"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nobody ever ran anything, and we in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("FACEFERRY_STORE_URL", "FACEFERRY_SPOOL_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "key").write_text(f"{new_identity()[0]}\n")
    return tmp_path


READERS = (
    "faces",
    "faces --by-visit",
    "index",
    "index --repair",
    "erase --status",
    "erase --camera yard --yes",
    "retain --check --days 9",
    f"open --identity key dt=2026-01-31/device=a/camera=b/20260131T120000.000000Z-{'0' * 32}.jpg",
)


@pytest.mark.parametrize("words", READERS)
def test_a_command_in_the_wrong_folder_says_where_it_looked_and_what_to_do(
    words: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faceferry(*words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"faceferry: there are no faces here: there is no folder {elsewhere}/faceferry-data/"
    )
    assert said.endswith("Go there, or name the place with --store or FACEFERRY_STORE_URL\n")
    assert len(said.splitlines()) == 1
    assert not (elsewhere / "faceferry-data").exists()


@pytest.mark.parametrize("words", READERS)
def test_a_folder_that_is_not_there_is_called_what_its_user_called_it(
    words: str, elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faceferry(*words.split(), "--store", "faces") == 2
    assert capsys.readouterr().err == f"faceferry: --store: there is no folder {elsewhere}/faces\n"
    monkeypatch.setenv("FACEFERRY_STORE_URL", "file:///no/such")
    assert faceferry(*words.split()) == 2
    assert capsys.readouterr().err == "faceferry: FACEFERRY_STORE_URL: there is no folder /no/such\n"


def test_spool_in_the_wrong_folder_says_where_it_looked(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["spool"], ["spool", "requeue"]):
        assert faceferry(*words) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"faceferry: there is no spool at {elsewhere}/state/faceferry/up-")
        assert "(faceferry spool FOLDER, or FACEFERRY_SPOOL_PATH)" in said


def test_copy_from_a_folder_that_is_not_there_makes_none(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faceferry("copy", "here", "there") == 2
    assert capsys.readouterr().err == f"faceferry: there is no folder {elsewhere}/here to copy from\n"
    assert not (elsewhere / "there").exists()


def test_an_empty_store_is_told_from_one_that_is_not_there(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "faceferry-data" / "faces").mkdir(parents=True)
    assert faceferry("faces") == 0
    url = f"file://{elsewhere}/faceferry-data/faces"
    assert capsys.readouterr().err == f"there are no faces in {url} yet\n"
    assert faceferry("index") == 0
    assert capsys.readouterr().err == f"there is no day with faces in {url}\n"


def test_the_doctor_makes_no_store_where_there_is_none(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faceferry("doctor")
    assert f"ok   store        {elsewhere}/faceferry-data/faces is not there yet" in capsys.readouterr().out
    assert not (elsewhere / "faceferry-data").exists()
