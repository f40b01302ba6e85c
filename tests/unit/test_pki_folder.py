import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from services.common.errors import SetupError
from services.common.runtime.lock import try_hold
from services.pki import certificates, register
from services.pki.files import Owner
from services.pki.folder import PkiFolder

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=300)
CONTAINERS = Owner(10001, 10002)


@pytest.fixture
def pki(tmp_path: Path) -> PkiFolder:
    made = PkiFolder(tmp_path / "secrets", CONTAINERS)
    made.init(["cloud.example.org"], NOW)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def revoked(pki: PkiFolder) -> set[int]:
    return {entry.serial_number for entry in x509.load_pem_x509_crl((pki.path / "crl.pem").read_bytes())}


AS_USER = """
import contextlib, io, os, sys, tempfile
from services.cli import main

# All that is imported may be root's alone, so it is before root is left, and cryptography imports as it goes.
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    for words in (["init", "--host", "a"], ["device", "b"]):
        main(["pki", "--folder", folder + "/c", *words])

os.setuid(int(sys.argv[1]))
sys.exit(main(["pki", *sys.argv[2:]]))
"""


def command(*arguments: str | Path, user: int | None = None) -> subprocess.CompletedProcess[str]:
    program = ["-m", "services.cli", "pki"] if user is None else ["-c", AS_USER, str(user)]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_key_for_erasures_is_made_once_and_its_public_part_goes_into_bundles(pki: PkiFolder) -> None:
    made = pki.add_erasure_key()
    assert b"PUBLIC" in made.read_bytes()
    assert stat.S_IMODE((pki.path / "erase.key").stat().st_mode) == 0o600
    with tarfile.open(pki.add_device("porch", NOW)) as bundle:
        packed = bundle.extractfile("erase.pub")
        assert packed is not None
        assert packed.read() == made.read_bytes()
        assert "erase.key" not in bundle.getnames()
    with pytest.raises(SetupError, match="there already"):
        pki.add_erasure_key()


def test_making_that_key_goes_on_where_it_was_killed(pki: PkiFolder) -> None:
    made = pki.add_erasure_key()
    before = contents(pki.path)
    made.unlink()
    assert pki.add_erasure_key() == made
    assert contents(pki.path) == before


def test_keys_are_secret_and_certificates_are_not(pki: PkiFolder) -> None:
    old = os.umask(0)
    try:
        pki.add_device("porch", NOW)
    finally:
        os.umask(old)
    for path in pki.path.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700
        else:
            assert mode == (0o600 if path.suffix in (".key", ".tar") else 0o644), path
    assert stat.S_IMODE(pki.path.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_for_containers_is_theirs_and_the_authority_is_not(pki: PkiFolder) -> None:
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in pki.path.glob("*.key")}
    theirs = (CONTAINERS.uid, CONTAINERS.gid)
    assert owners == {"ca.key": (0, 0), "gallery.key": theirs, "server.key": theirs, "store.key": theirs}


def test_the_broker_is_also_known_to_the_store_beside_it(pki: PkiFolder) -> None:
    names = certificate(pki.path / "server.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {str(name.value) for name in names.value} == {
        "cloud.example.org",
        "broker",
        "localhost",
        "127.0.0.1",
    }


def test_a_bundle_holds_what_the_device_needs_and_no_more(pki: PkiFolder) -> None:
    with tarfile.open(pki.add_device("porch", NOW)) as bundle:
        members = {member.name: (oct(member.mode), member.uid, member.gid) for member in bundle}
    assert members == {
        "ca.crt": ("0o644", 10001, 10002),
        "device.crt": ("0o644", 10001, 10002),
        "device.key": ("0o600", 10001, 10002),
    }


def test_nothing_is_overwritten(pki: PkiFolder) -> None:
    pki.add_device("porch", NOW)
    before = contents(pki.path)
    with pytest.raises(SetupError, match="is there already: nothing was changed"):
        pki.init(["other.example.org"], LATER)
    with pytest.raises(SetupError, match="is there already: nothing was changed"):
        pki.add_device("porch", LATER)
    assert contents(pki.path) == before


def test_one_file_of_an_authority_is_enough_to_stop(tmp_path: Path) -> None:
    (tmp_path / "server.key").write_text("mine")
    with pytest.raises(SetupError, match=r"server\.key is there already"):
        PkiFolder(tmp_path, CONTAINERS).init(["cloud.example.org"], NOW)
    assert contents(tmp_path) == {"server.key": b"mine"}


@pytest.mark.parametrize("name", ["../porch", "Porch", "", "a/b", "_authority", "_server", "."])
def test_a_bad_name_touches_nothing(pki: PkiFolder, name: str) -> None:
    before = contents(pki.path)
    for act in (pki.add_device, pki.revoke):
        with pytest.raises(SetupError):
            act(name, NOW)
    assert contents(pki.path) == before


@pytest.mark.parametrize("name", ["_store", "_gallery", "_server"])
def test_a_service_is_no_device(pki: PkiFolder, name: str) -> None:
    with pytest.raises(SetupError, match="is no device name"):
        pki.add_device(name, NOW)


def test_a_revoked_device_is_listed_and_may_have_a_new_certificate(pki: PkiFolder) -> None:
    pki.add_device("porch", NOW)
    pki.add_device("yard", NOW)
    first = certificate(pki.path / "devices/porch.crt").serial_number
    pki.revoke("porch", LATER)
    assert revoked(pki) == {first}
    assert not (pki.path / "devices/porch.tar").exists()
    pki.add_device("porch", LATER)
    second = certificate(pki.path / "devices/porch.crt").serial_number
    pki.revoke("porch", LATER)
    pki.revoke("yard", LATER)
    assert {first, second} < revoked(pki)
    assert len(revoked(pki)) == 3


def test_a_device_that_is_unknown_cannot_be_revoked(pki: PkiFolder) -> None:
    with pytest.raises(SetupError, match="there is no certificate of 'attic'"):
        pki.revoke("attic", NOW)
    with pytest.raises(SetupError, match="there is no device 'attic'"):
        pki.renew("attic", NOW)


def serials(pki: PkiFolder, name: str) -> list[int]:
    return [each.certificate.serial_number for each in pki.issued() if each.name == name]


def states(pki: PkiFolder, name: str, now: datetime) -> list[str]:
    return [str(each.state(now)) for each in pki.issued() if each.name == name]


@pytest.mark.parametrize("name", ["porch", "_store", "_gallery"])
def test_all_certificates_of_a_name_are_revoked_and_no_other_ones(pki: PkiFolder, name: str) -> None:
    for device in ("porch", "porch-2", "por"):
        pki.add_device(device, NOW)
    pki.renew(name, LATER)
    pki.renew(name, LATER)
    of_name = set(serials(pki, name))
    assert len(of_name) == 3
    assert {each.certificate.serial_number for each in pki.revoke(name, LATER)} == of_name
    assert revoked(pki) == of_name


def test_what_has_expired_is_not_listed_for_it_lets_nobody_in(pki: PkiFolder) -> None:
    pki.add_device("porch", NOW)
    pki.renew("porch", LATER)
    over = NOW + timedelta(days=827)
    assert states(pki, "porch", over) == ["expired", "valid"]
    pki.revoke("porch", over)
    assert revoked(pki) == set(serials(pki, "porch")[1:])


@pytest.mark.parametrize("name", ["porch", "_store"])
def test_to_revoke_once_more_changes_nothing(pki: PkiFolder, name: str) -> None:
    pki.add_device("porch", NOW)
    pki.revoke(name, NOW)
    before = contents(pki.path)
    assert pki.revoke(name, LATER) == []
    assert contents(pki.path) == before


def test_one_certificate_can_be_revoked_by_its_number(pki: PkiFolder) -> None:
    pki.add_device("porch", NOW)
    pki.renew("porch", LATER)
    old, new = serials(pki, "porch")
    pki.revoke("porch", LATER, old)
    assert revoked(pki) == {old}
    assert states(pki, "porch", LATER) == ["revoked", "valid"]
    pki.renew("porch", LATER + timedelta(days=1))
    pki.revoke("porch", LATER, serials(pki, "porch")[2])
    assert states(pki, "porch", LATER) == ["revoked", "superseded", "revoked"]
    assert not (pki.path / "devices/porch.crt").exists()
    with pytest.raises(SetupError, match="'_store' with the serial number"):
        pki.revoke("_store", LATER, new)


def test_a_revoked_service_keeps_its_files_until_it_has_new_ones(pki: PkiFolder) -> None:
    """Containers are not even made where a secret's file is missing."""
    pki.revoke("_store", NOW)
    assert (pki.path / "store.crt").exists()
    assert (pki.path / "store.key").exists()
    assert states(pki, "_store", NOW) == ["revoked"]
    pki.renew("_store", LATER)
    assert states(pki, "_store", LATER) == ["revoked", "valid"]


def test_the_brokers_certificate_cannot_be_taken_back_and_that_is_said(pki: PkiFolder) -> None:
    with pytest.raises(SetupError, match="make a new authority"):
        pki.revoke("_server", NOW)


def test_a_renewed_broker_has_the_hosts_it_had_or_those_it_is_given(pki: PkiFolder) -> None:
    def hosts() -> list[str]:
        return certificates.hosts_of(certificate(pki.path / "server.crt"))

    before = hosts()
    pki.renew("_server", LATER)
    assert hosts() == before
    pki.renew("_server", LATER, ["new.example.org", "192.0.2.7"])
    assert set(hosts()) == {"new.example.org", "192.0.2.7", "broker", "localhost", "127.0.0.1"}
    pki.renew("_server", LATER, added=["old.example.org"])
    assert hosts()[0] == "new.example.org"
    assert set(hosts()) > {"new.example.org", "192.0.2.7", "old.example.org"}
    with pytest.raises(SetupError, match="only _server has hosts"):
        pki.renew("_store", LATER, ["new.example.org"])


def test_every_certificate_has_a_state(pki: PkiFolder) -> None:
    pki.add_device("porch", NOW)
    pki.renew("porch", LATER)
    pki.add_device("yard", NOW)
    pki.revoke("yard", LATER)
    near, over = NOW + timedelta(days=810), NOW + timedelta(days=825)
    assert states(pki, "_authority", NOW) == states(pki, "_server", NOW) == ["valid"]
    assert states(pki, "_store", near) == ["expires soon"]
    assert states(pki, "_store", over) == ["expired"]
    assert states(pki, "porch", near) == ["superseded", "valid"]
    assert states(pki, "porch", over) == ["expired", "valid"]
    assert states(pki, "yard", over) == ["revoked"]


def lay_out_as_before(pki: PkiFolder) -> None:
    """Bring a folder with porch (renewed once) and stolen (revoked) into the shape it had before `issued`."""
    current = certificate(pki.path / "devices/porch.crt").serial_number
    for path in (pki.path / "issued").iterdir():
        name, _, serial = path.stem.rpartition("-")
        folder = pki.path / "devices" / ("revoked" if name == "stolen" else "renewed")
        folder.mkdir(exist_ok=True)
        if name.startswith("_") or int(serial, 16) == current:
            path.unlink()
        else:
            path.rename(folder / path.name)
    (pki.path / "issued").rmdir()


def test_a_folder_of_an_older_version_is_understood(pki: PkiFolder) -> None:
    for name in ("porch", "stolen", "yard"):
        pki.add_device(name, NOW)
    pki.renew("porch", LATER)
    pki.revoke("stolen", LATER)
    before = {name: states(pki, name, LATER) for name in ("porch", "stolen", "yard", "_store", "_server")}
    of_porch, of_stolen = set(serials(pki, "porch")), set(serials(pki, "stolen"))
    lay_out_as_before(pki)
    assert {name: states(pki, name, LATER) for name in before} == before
    assert pki.revoke("stolen", LATER) == []
    pki.revoke("porch", LATER)
    assert revoked(pki) == of_porch | of_stolen
    first = serials(pki, "_store")
    pki.renew("_store", LATER)
    assert serials(pki, "_store")[:1] == first
    pki.revoke("_store", LATER)
    assert len(revoked(pki)) == 5


def test_it_is_known_whether_an_older_version_has_forgotten_some(pki: PkiFolder) -> None:
    pki.renew("_store", LATER)
    assert not register.may_be_incomplete(pki.issued(), "_store")
    for path in (pki.path / "issued").glob("_store-*"):
        path.unlink()
    assert register.may_be_incomplete(pki.issued(), "_store")
    assert not register.may_be_incomplete(pki.issued(), "_gallery")


def test_what_was_half_written_by_a_command_that_was_killed_stops_none(pki: PkiFolder) -> None:
    pki.add_device("porch", NOW)
    for name in (".crl.pem", "devices/.porch.crt", "issued/.porch-1.crt", ".store.crt"):
        (pki.path / name).write_bytes(b"-----BEGIN")
    pki.renew("_store", LATER)
    pki.renew("porch", LATER)
    assert len(pki.revoke("porch", LATER)) == 2


def start(
    folder: Path, act: Callable[[PkiFolder], object], number: int, is_moment: Callable[[str, str], bool]
) -> int:
    """Do something in a child process, which gets a signal before it does what is the moment to a file.

    Returns the child's process id.
    """
    if child := os.fork():
        return child

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        path = str(arguments[0]) if event in ("open", "os.rename", "os.remove", "os.mkdir") else ""
        if str(folder) in path and is_moment(event, path):
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    try:
        act(PkiFolder(folder, CONTAINERS))
        os._exit(0)
    finally:
        os._exit(1)


class NthThing:
    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, _event: str, _path: str) -> bool:
        self._left -= 1
        return self._left == -1


def is_writing_list(event: str, path: str) -> bool:
    return event == "open" and path.endswith("/.crl.pem")


def handed_out(folder: Path) -> set[int]:
    """Return the serial numbers in the bundles that could be copied by now."""
    found = set()
    for path in (folder / "devices").glob("[!.]*.tar"):
        with tarfile.open(path) as bundle:
            content = bundle.extractfile("device.crt")
            assert content is not None
            found.add(x509.load_pem_x509_certificate(content.read()).serial_number)
    return found


def add_attic(pki: PkiFolder) -> None:
    if not (pki.path / "devices/attic.crt").exists():
        pki.add_device("attic", LATER)


ACTS: dict[str, Callable[[PkiFolder], object]] = {
    "revoke a device": lambda pki: pki.revoke("porch", LATER),
    "revoke a service": lambda pki: pki.revoke("_store", LATER),
    "renew a device": lambda pki: pki.renew("porch", LATER),
    "renew a service": lambda pki: pki.renew("_store", LATER),
    "renew the broker": lambda pki: pki.renew("_server", LATER),
    "add a device": add_attic,
}


@pytest.mark.parametrize("act", ACTS)
def test_a_command_that_is_killed_anywhere_loses_nothing_and_can_be_given_again(
    tmp_path: Path, pki: PkiFolder, act: str
) -> None:
    for name in ("stolen", "porch"):
        pki.add_device(name, NOW)
    pki.revoke("stolen", NOW)
    pki.renew("porch", NOW)
    listed, known = revoked(pki), {each.serial for each in pki.issued()}
    for step in itertools.count():
        folder = tmp_path / str(step)
        shutil.copytree(pki.path, folder)
        child = start(folder, ACTS[act], signal.SIGKILL, NthThing(step))
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tried = PkiFolder(folder, CONTAINERS)
        assert revoked(tried) >= listed
        assert {each.serial for each in tried.issued()} >= known
        assert {each.certificate.serial_number for each in tried.issued()} >= handed_out(folder)
        ACTS[act](tried)
        for name in ("porch", "_store"):
            of_name = set(serials(tried, name))
            tried.revoke(name, LATER)
            assert revoked(tried) >= of_name | listed
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert step > 5, "it was killed at no point"


def test_two_commands_at_once_lose_no_entry_of_the_list(pki: PkiFolder) -> None:
    """The first is stopped when it has read the list and is about to write it."""
    for name in ("porch", "yard"):
        pki.add_device(name, NOW)
    stolen = {*serials(pki, "porch"), *serials(pki, "yard")}
    child = start(pki.path, lambda pki: pki.revoke("porch", LATER), signal.SIGSTOP, is_writing_list)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    try:
        pki.revoke("yard", LATER)
        is_done = True
    except SetupError:
        is_done = False
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if not is_done:
        pki.revoke("yard", LATER)
    assert revoked(pki) == stolen


def test_a_command_waits_for_no_other_and_says_so(pki: PkiFolder) -> None:
    before = contents(pki.path)
    with try_hold(pki.path) as is_ours:
        assert is_ours
        with pytest.raises(SetupError, match="another `faceferry pki` is at work"):
            pki.revoke("_store", NOW)
    assert contents(pki.path) == before


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("porch", "devices/porch.crt"),
        ("_server", "server.crt"),
        ("_store", "store.crt"),
        ("_gallery", "gallery.crt"),
    ],
)
def test_a_renewed_certificate_lives_longer_and_the_old_one_is_not_revoked(
    pki: PkiFolder, name: str, file: str
) -> None:
    pki.add_device("porch", NOW)
    old = certificate(pki.path / file)
    pki.renew(name, LATER)
    new = certificate(pki.path / file)
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert new.subject == old.subject
    assert revoked(pki) == set()


def test_an_authority_older_than_the_gallery_gets_its_certificate_by_renewal(pki: PkiFolder) -> None:
    made = {name: pki.path / name for name in ("gallery.crt", "gallery.key")}
    for path in made.values():
        path.unlink()
    assert pki.renew("_gallery", LATER) == made["gallery.crt"]
    assert all(path.exists() for path in made.values())


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert "pki device NAME" in command("--folder", folder, "init", "--host", "cloud.example.org").stdout
    assert "tar -xpf porch.tar" in command("--folder", folder, "device", "porch").stdout
    assert "docker compose restart broker\n" in command("--folder", folder, "revoke", "porch").stdout
    assert "docker compose restart gallery" in command("--folder", folder, "renew", "_gallery").stdout
    assert "docker compose restart broker\n" in command("--folder", folder, "renew", "_server").stdout
    said = command("--folder", folder, "revoke", "_store").stdout
    assert "pki renew _store, and in compose/cloud: docker compose restart broker store" in said
    again = command("--folder", folder, "revoke", "_store")
    assert again.returncode == 0
    assert "was revoked before" in again.stdout


def test_the_command_lists_one_certificate_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command("--folder", folder, "init", "--host", "cloud.example.org")
    command("--folder", folder, "device", "porch")
    lines = [line.split(maxsplit=3) for line in command("--folder", folder, "list").stdout.splitlines()]
    assert [(name, state) for name, _, _, state in lines] == [
        (name, "valid") for name in ("_authority", "_gallery", "_server", "_store", "porch")
    ]
    serial = lines[-1][1]
    assert int(serial, 16) == certificate(folder / "devices/porch.crt").serial_number
    with_colons = ":".join(serial.zfill(40)[at : at + 2] for at in range(0, 40, 2)).upper()
    assert serial in command("--folder", folder, "revoke", "porch", "--serial", with_colons).stdout
    listed = [json.loads(line) for line in command("--folder", folder, "list", "--json").stdout.splitlines()]
    assert {**listed[-1], "until": None} == {
        "name": "porch",
        "serial": serial,
        "until": None,
        "state": "revoked",
    }
    assert datetime.fromisoformat(listed[-1]["until"]) > datetime.now(UTC) + timedelta(days=800)


def test_the_command_ends_with_status_2_and_one_line_when_it_cannot(tmp_path: Path) -> None:
    done = command("--folder", tmp_path, "device", "porch")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "pki init" in done.stderr
    assert command("--folder", tmp_path, "revoke", "porch", "--serial", "x").returncode == 2
    assert command("--folder", tmp_path, "init", "--host", "a b").returncode == 2
    assert contents(tmp_path) == {}


def test_the_command_says_what_the_broker_is_called_from_now_on(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command("--folder", folder, "init", "--host", "cloud.example.org")
    said = command("--folder", folder, "renew", "_server", "--add-host", "192.0.2.7").stdout
    assert said.startswith(
        "the broker is now cloud.example.org, broker, localhost, 127.0.0.1, 192.0.2.7\nrenewed"
    )
    said = command("--folder", folder, "renew", "_server", "--host", "new.example.org").stdout
    assert "and not cloud.example.org, 192.0.2.7 any more: devices that say so do not trust it\n" in said


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are for who runs it."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


HERE = "docker compose run --rm pki"
"""How it is called in compose/cloud."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_in_a_container_it_works_for_whose_folder_it_is_and_calls_itself_as_it_was_called(
    open_folder: Path,
) -> None:
    folder = open_folder / "secrets"
    folder.mkdir(0o700)
    os.chown(folder, 4321, 4322)
    options = ("--called", HERE, "--folder", folder)
    made = command(*options, "init", "--host", "cloud.example.org", user=4321)
    assert f"next: {HERE} device NAME" in made.stdout, made.stderr
    assert "FACEFERRY_UID" not in made.stdout
    assert {path.stat().st_uid for path in folder.iterdir()} == {4321}
    missing = command(*options, "renew", "porch", user=4321)
    assert (missing.returncode, f"`{HERE} device porch` makes one" in missing.stderr) == (2, True), (
        missing.stderr
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("owner", "user", "words"),
    [
        (
            4321,
            10001,
            "and containers run as 10001:0: FACEFERRY_UID=4321 and FACEFERRY_GID=0 in .env",
        ),
        (0, 10001, "belongs to 0:0, and containers run as 10001:0: chown -R 10001:0 "),
        (0, 0, "containers are not to run as root: FACEFERRY_UID=10001 and FACEFERRY_GID=10001 in .env"),
    ],
)
def test_in_a_container_of_somebody_else_it_says_what_to_write(
    open_folder: Path, owner: int, user: int, words: str
) -> None:
    os.chown(open_folder, owner, 0)
    done = command(
        "--called", HERE, "--folder", open_folder, "init", "--host", "cloud.example.org", user=user
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert words in done.stderr
    assert list(open_folder.iterdir()) == []
