"""The server that benchmarks need and that does not come with Faceferry."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import SHARED, S3Server

S3_BUCKET = "bench"


@contextmanager
def s3_server(folder: Path, program: str | None = None) -> Iterator[S3Server]:
    """Run an S3 server with an empty bucket, `S3_BUCKET`, over a folder.

    Args:
        folder: for what it keeps.
        program: versitygw; looked for where it is not named.

    Raises:
        SystemExit: there is none.
    """
    server = S3Server(program or needed_s3_server(), folder)
    try:
        server.start().create_bucket(S3_BUCKET)
        yield server
    finally:
        server.kill()


def needed_s3_server() -> str:
    """Return the path of versitygw.

    Raises:
        SystemExit: there is none.
    """
    if (found := find_s3_server()) is None:
        raise SystemExit("no S3 server: name a versitygw program in FACEFERRY_TEST_S3_SERVER")
    return found


def find_s3_server() -> str | None:
    """Return the path of versitygw, or None where there is none.

    It is the one named in FACEFERRY_TEST_S3_SERVER, else an installed one, else one that the development
    environment builds; what goes wrong while it is built is said on the standard error.
    """
    if found := os.environ.get("FACEFERRY_TEST_S3_SERVER") or shutil.which("versitygw"):
        return found
    builder = SHARED / "images" / "s3-server"
    if not builder.exists():
        return None
    built = subprocess.run([builder], stdout=subprocess.PIPE, text=True, check=False)
    return built.stdout.strip() if built.returncode == 0 else None
