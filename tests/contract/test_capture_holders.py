"""Who has a device is told; a terminal is a device that everybody can have."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.capture.source.v4l2 import holders, in_use


@pytest.fixture
def device() -> Iterator[str]:
    ours, theirs = os.openpty()
    yield os.ttyname(theirs)
    for end in (ours, theirs):
        os.close(end)


def test_a_device_that_only_this_process_has_is_held_by_no_other(device: str) -> None:
    assert list(holders(device)) == []


def test_a_program_that_has_the_device_is_named(device: str) -> None:
    # Not a child of this process, whose children are its own cameras.
    script = f"sleep 60 <{device} & echo $!; read line; kill $!"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        while in_use(device) != f"in use by sleep (process {pid})":
            time.sleep(0.01)  # it is still a shell
        shell.communicate("done\n")


def test_another_camera_of_ours_is_called_that(device: str) -> None:
    with (
        Path(device).open() as open_device,
        subprocess.Popen([sys.executable, "-S", "-E", "-c", "input()"], stdin=open_device) as child,
    ):
        assert in_use(device) == "in use by another of these cameras"
        child.kill()


def test_a_device_that_is_gone_is_in_use_by_who_knows_whom() -> None:
    assert in_use("/dev/video99") == "in use by another program"
