"""Whatever ends `faceferry up`, nothing that it started outlives it: as root, and not."""

import contextlib
import fcntl
import os
import pty
import secrets
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.capture.source.ffmpeg import find_ffmpeg
from services.up import sweep
from services.up.process_guard import marked, new_mark
from tests.conftest import skip

NOBODY = 65_534
TRACE = "UP_ENDS_TEST"
"""What tells our processes from everybody else's, whoever's children they are by now."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}

# A camera's program with children, some of them in a session of their own, deaf, and holding no pipe of ours.
CAMERA = """
(trap '' HUP INT TERM; exec setsid sh -c 'sleep 500; :' </dev/null >/dev/null 2>&1) &
{ffmpeg} -v error -re -f lavfi -i testsrc=size=320x240:rate=5 -f mpjpeg - | cat
"""
PARTS = ("services.capture", "services.detect", "services.forward", "services.store", "services.gallery")
PROGRAMS = (*PARTS, "local.conf", "cloud.conf", "testsrc", "sh -c sleep 500")


def traced(trace: str) -> dict[str, psutil.Process]:
    """Return the living processes that were started with our trace, by their command lines."""
    found = {}
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if each.status() != psutil.STATUS_ZOMBIE and each.environ().get(TRACE) == trace:
                found[f"{each.pid} {' '.join(each.cmdline())}"] = each
    return found


def eventually(claim: Callable[[], object], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def as_user(user: str) -> dict[str, Any]:
    """Return what makes a child process this user's."""
    is_other = user == "nobody" and os.geteuid() == 0
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_other else {}


def python_of(user: str) -> str:
    """Return a Python with our packages that this user may run: root's own may lie in root's home."""
    for program in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [program, "-c", "import aiomqtt, cv2, onnxruntime, simplejpeg, uvloop, services"],
                env=ENVIRONMENT,
                cwd="/",
                capture_output=True,
                check=False,
                **as_user(user),
            )
            if tried.returncode == 0:
                return program
    skip(f"{user} can run no Python with our packages here")
    return ""


class Run:
    """An `up` in a session of its own, on a terminal of its own, and what it has started."""

    def __init__(self, folder: Path, user: str) -> None:
        self.trace = secrets.token_hex(8)
        self.said = b""
        folder.chmod(0o777)
        camera = folder / "camera.sh"
        camera.write_text(CAMERA.format(ffmpeg=find_ffmpeg()))
        what = ["--source", f"exec:sh {camera}", "--store", str(folder / "faces"), "--detector", "haar"]
        self.terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [python_of(user), "-m", "services.cli", "up", *what],
            env={**ENVIRONMENT, "XDG_STATE_HOME": str(folder), "HOME": str(folder), TRACE: self.trace},
            cwd="/",
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
            **as_user(user),
        )
        os.close(theirs)
        os.set_blocking(self.terminal, False)

    def is_complete(self) -> bool:
        """Say whether all parts run, the camera's children among them."""
        self._read()
        lines = traced(self.trace)
        return all(any(program in line for line in lines) for program in PROGRAMS)

    def is_gone(self) -> bool:
        self._read()
        return self.process.poll() is not None and not traced(self.trace)

    def part(self, name: str) -> psutil.Process:
        return next(process for line, process in traced(self.trace).items() if line.endswith(name))

    def hang_up(self) -> None:
        terminal, self.terminal = self.terminal, -1
        os.close(terminal)

    def clean(self) -> None:
        for each in traced(self.trace).values():
            each.kill()
        self.process.kill()
        self.process.wait(10)
        if self.terminal >= 0:
            self.hang_up()

    def _read(self) -> None:
        """Take what is said: a terminal that is full would hold everything up."""
        with contextlib.suppress(OSError):
            while self.terminal >= 0 and (data := os.read(self.terminal, 65_536)):
                self.said += data


@pytest.fixture(autouse=True)
def hang_ups_are_heard() -> Iterator[None]:
    """Whoever runs these tests may ignore some signals, as `nohup` and `&` do, and children inherit that."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=["root", "nobody"] if os.geteuid() == 0 else ["ourselves"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(
        ignore_cleanup_errors=True
    ) as folder:  # pytest's own is closed to others
        made = Run(Path(folder), request.param)
        yield made
        made.clean()


ENDINGS: dict[str, Callable[[Run], None]] = {
    "SIGHUP": lambda run: run.process.send_signal(signal.SIGHUP),
    "SIGTERM": lambda run: run.process.send_signal(signal.SIGTERM),
    "SIGINT": lambda run: run.process.send_signal(signal.SIGINT),
    "SIGQUIT": lambda run: run.process.send_signal(signal.SIGQUIT),
    "SIGKILL": lambda run: run.process.kill(),
    "SIGKILL of its group": lambda run: os.killpg(run.process.pid, signal.SIGKILL),
    "a closed terminal": lambda run: run.hang_up(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_that_it_started_outlives_it(run: Run, ending: str) -> None:
    assert eventually(run.is_complete, 40), run.said.decode()
    ENDINGS[ending](run)
    assert eventually(run.is_gone, 15), list(traced(run.trace))


def test_what_a_part_leaves_behind_is_ended_before_it_is_started_again(run: Run) -> None:
    """A camera's program that lives on keeps the camera from the next one."""
    assert eventually(run.is_complete, 40), run.said.decode()
    before = {line for line in traced(run.trace) if "sleep 500" in line or "testsrc" in line}
    run.part("services.capture").kill()
    assert eventually(lambda: not before & set(traced(run.trace)), 10)
    assert eventually(run.is_complete, 40), run.said.decode()


def test_its_watcher_is_replaced_when_it_is_killed(run: Run) -> None:
    assert eventually(run.is_complete, 40), run.said.decode()

    def watchers() -> set[psutil.Process]:
        return {process for line, process in traced(run.trace).items() if "sweep.py" in line}

    (first,) = watchers()
    first.kill()
    assert eventually(lambda: watchers() - {first}, 10)  # the first one may be seen dying
    run.process.kill()
    assert eventually(run.is_gone, 15), list(traced(run.trace))


def test_one_that_is_just_becoming_another_program_is_found(tmp_path: Path) -> None:
    """Between execve() and its start a program shows no environment; this one is there again and again."""
    again = tmp_path / "again.sh"
    again.write_text('exec sh "$0"')
    for _ in range(40):
        mark = new_mark()
        process = subprocess.Popen(["sh", again], env=marked(os.environ, mark))
        sweep.end(mark)
        assert process.wait(5) == -signal.SIGKILL
