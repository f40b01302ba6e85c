"""An S3 server that has life-cycle rules, whose days last ten seconds: SeaweedFS, built for tests.

`python -m tests.seaweed.server` builds it with Go, which takes a quarter of an hour, and keeps it in the
user's cache.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from services.up.brokers import free_port
from tests.conftest import skip
from tests.go_program import GoProgram
from tests.support import wait_for_port

DAY_S = 10.0
_PROGRAM = GoProgram(
    "seaweedfs",
    Path(__file__).parent,
    ("go.mod", "go.sum"),
    ["-mod=mod", "-tags=s3tests", "github.com/seaweedfs/seaweedfs/weed"],
    {"CGO_ENABLED": "0"},
)
_OFF = (
    "-webdav=false",
    "-admin.ui=false",
    "-master.telemetry=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)


def build() -> str | None:
    """Build the program, if there is none yet; return why that cannot be done."""
    why = _PROGRAM.build()
    return why and f"no SeaweedFS: {why}"


class SeaweedServer:
    """The server, on loopback alone, in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        if not _PROGRAM.path.exists():
            skip("no S3 server with life-cycle rules: `python -m tests.seaweed.server` builds one, with Go")
        self._program = _PROGRAM.path
        self._folder = folder
        names = ("master", "volume", "filer", "admin")
        self._ports = {name: free_port() for name in names}
        self.port, self._grpc_port, self._filer_grpc, self._master_grpc = (free_port() for _ in range(4))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a store needs to get in."""
        return {
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "FACEFERRY_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    def __enter__(self) -> Self:
        keys = {"accessKey": "test-key", "secretKey": "test-secret"}
        identity = {"name": "test", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (self._folder / "data").mkdir()
        options = [
            f"-dir={self._folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.config={self._folder / 's3.json'}",
            f"-s3.port={self.port}",
            f"-s3.port.grpc={self._grpc_port}",
            f"-master.port.grpc={self._master_grpc}",
            f"-filer.port.grpc={self._filer_grpc}",
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
            *_OFF,
        ]
        with (self._folder / "seaweed.log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, "mini", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for_port(self.port, 60.0)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def obey_rules(self) -> None:
        """Do what the rules of all buckets say by now."""
        where = f"-shards 0-15 -s3 127.0.0.1:{self._grpc_port}"
        told = f"s3.lifecycle.run-shard {where} -events 0 -refresh 1s -runtime 10s"
        master = f"127.0.0.1:{self._ports['master']}.{self._master_grpc}"
        subprocess.run(
            [self._program, "shell", f"-master={master}"],
            input=f"{told}\n".encode(),
            cwd=self._folder,
            capture_output=True,
            check=True,
            timeout=60,
        )


if __name__ == "__main__":
    sys.exit(build())
