"""The cloud broker's configuration, as `compose/cloud/broker/start` puts it together for a Mosquitto."""

import os
import subprocess
from pathlib import Path

import pytest

START = Path(__file__).parents[2] / "compose" / "cloud" / "broker" / "start"


def configured(folder: Path, version: str) -> list[str]:
    """Return the lines that a broker of a version is started with."""
    program = folder / "mosquitto"
    program.write_text(f"#!/bin/sh\necho 'mosquitto version {version}'\n")
    program.chmod(0o755)
    subprocess.run(
        ["/bin/sh", START],
        env={
            "PATH": f"{folder}{os.pathsep}{os.defpath}",
            "TMPDIR": str(folder),
            "CLIENTS": "certificates",
            "TEST_TOPIC": "porch",
        },
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=30,
    )
    return (folder / "broker" / "mosquitto.conf").read_text().splitlines()


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("2.0.11", "allow_anonymous"),
        ("2.0.22", "allow_anonymous"),
        ("of some day", "allow_anonymous"),
        ("2.1.2", "listener_allow_anonymous"),
        ("3.0.0", "listener_allow_anonymous"),
    ],
)
def test_a_broker_is_asked_in_the_words_that_it_knows(tmp_path: Path, version: str, option: str) -> None:
    lines = configured(tmp_path, version)
    assert [line for line in lines if "allow_anonymous" in line] == [f"{option} true", f"{option} false"]
    assert lines[-1].startswith("acl_file")
