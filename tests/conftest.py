import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import SHARED, MosquittoServer, S3Server, running_broker

# How long an example takes says how busy the machine is, a Pi or one with other work; what hangs is ended by
# pytest's own timeout.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Most tests count every face of every frame; those about visits say so. Services are started with it.
os.environ["FACEFERRY_KEEP"] = "every"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MosquittoServer]:
    """A Mosquitto of the test's own, running."""
    with running_broker(tmp_path) as server:
        yield server


@pytest.fixture
def local(tmp_path: Path) -> Iterator[MosquittoServer]:
    """The broker at the edge."""
    with running_broker(tmp_path) as server:
        yield server


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[MosquittoServer]:
    """The broker in the cloud."""
    with running_broker(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder with the real clips."""
    folder = SHARED / "data" / "video"
    if not folder.is_dir():
        skip("the real clips are not on this machine")
    return folder


@pytest.fixture(scope="session")
def s3_program() -> str:
    """The path of a real S3 server program (versitygw)."""
    if named := os.environ.get("FACEFERRY_TEST_S3_SERVER"):
        return named
    builder = SHARED / "images" / "s3-server"
    if not builder.exists():
        skip("no S3 server: name a versitygw program in FACEFERRY_TEST_S3_SERVER")
    built = subprocess.run([builder], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        skip(f"the S3 server could not be built: {built.stderr.strip()[-200:]}")
    return built.stdout.strip()


@pytest.fixture
def s3(s3_program: str, tmp_path: Path) -> Iterator[S3Server]:
    """An S3 server of the test's own, running, without a bucket."""
    server = S3Server(s3_program, tmp_path).start()
    yield server
    server.kill()


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server of an empty bucket `faces`, which this process reaches as `s3://faces`."""
    s3.create_bucket("faces")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate of 127.0.0.1, which vouches for itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    key.chmod(0o644)
    return key, certificate


def skip(reason: str) -> None:
    """Skip a test for what this machine lacks; in CI nothing may be lacking."""
    if os.environ.get("FACEFERRY_TEST_NO_SKIPS"):
        pytest.fail(f"may not be skipped here: {reason}")
    pytest.skip(reason)
