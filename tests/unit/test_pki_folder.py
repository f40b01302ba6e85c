import os
import stat
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from services.common.errors import SetupError
from services.pki.folder import Owner, PkiFolder

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


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "pki", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


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


@pytest.mark.parametrize("name", ["../porch", "Porch", "", "a/b", "_store", "_gallery", "_server", "."])
def test_a_bad_name_touches_nothing(pki: PkiFolder, name: str) -> None:
    before = contents(pki.path)
    for act in (pki.add_device, pki.revoke):
        with pytest.raises(SetupError):
            act(name, NOW)
    assert contents(pki.path) == before


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
    with pytest.raises(SetupError, match="there is no device 'attic'"):
        pki.revoke("attic", NOW)


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
    assert "docker compose restart broker" in command("--folder", folder, "revoke", "porch").stdout
    assert "docker compose restart gallery" in command("--folder", folder, "renew", "_gallery").stdout


def test_the_command_ends_with_status_2_and_one_line_when_it_cannot(tmp_path: Path) -> None:
    done = command("--folder", tmp_path, "device", "porch")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "pki init" in done.stderr
    assert command("--folder", tmp_path, "init", "--host", "a b").returncode == 2
    assert contents(tmp_path) == {}
