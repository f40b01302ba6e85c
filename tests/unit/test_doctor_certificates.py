from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.commands import doctor
from services.pki.files import Owner
from services.pki.folder import PkiFolder

NOW = datetime.now(UTC)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for which in ("CA", "CERT"):
        monkeypatch.delenv(f"FACEFERRY_CLOUD_{which}_FILE", raising=False)
    return tmp_path


def made(folder: Path, at: datetime) -> PkiFolder:
    pki = PkiFolder(folder, Owner(0, 0))
    pki.init(["cloud.example.org"], at)
    return pki


async def finding() -> doctor.Finding:
    return await doctor._carefully(doctor._certificates)


@pytest.mark.usefixtures("here")
async def test_where_there_are_no_certificates_nothing_is_wrong_with_them() -> None:
    assert (await finding()).is_fine


async def test_the_first_to_expire_is_named(here: Path) -> None:
    made(here / "secrets", NOW - timedelta(days=600))
    found = await finding()
    assert found.is_fine
    assert f"{NOW + timedelta(days=225):%Y-%m-%d}" in found.text


async def test_one_that_expires_soon_is_said_and_one_that_has_is_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = here / "elsewhere"
    made(elsewhere, NOW - timedelta(days=800))
    monkeypatch.setenv("FACEFERRY_CLOUD_CA_FILE", str(elsewhere / "ca.crt"))
    monkeypatch.setenv("FACEFERRY_CLOUD_CERT_FILE", str(elsewhere / "store.crt"))
    soon = await finding()
    assert (soon.is_fine, soon.is_needed) == (False, False)
    assert soon.text.startswith(f"{elsewhere}/store.crt expires on ")
    pki = made(here / "secrets", NOW - timedelta(days=900))
    pki.renew("_server", NOW)
    over = await finding()
    assert (over.is_fine, over.is_needed) == (False, True)
    assert "secrets/gallery.crt expired on " in over.text
    assert "secrets/store.crt expired on " in over.text
    assert "server.crt" not in over.text


@pytest.mark.parametrize("content", [b"", b"\xff" * 99, None])
async def test_one_that_is_none_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (here / "own.crt").write_bytes(content)
    monkeypatch.setenv("FACEFERRY_CLOUD_CERT_FILE", "own.crt")
    found = await finding()
    assert (found.is_fine, found.is_needed) == (False, True)
    assert "own.crt" in found.text
