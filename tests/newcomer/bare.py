"""Bare systems: Debian as debootstrap makes it, in a folder, with a clone of the project in a home there."""

import fcntl
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.conftest import skip
from tests.guests import CACHE, lacks, pack

USER = "anna"

_HERE = Path(__file__).parent
_FOLDER = CACHE / "newcomer"
_UID = 1000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = "/etc/this-machines-certificates.crt"
_MIRRORS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


@dataclass
class Done:
    """A command that has ended.

    Attributes:
        status: its exit status.
        said: what it printed, on stdout and stderr, line by line.
        seconds: how long it took.
    """

    status: int
    said: list[str]
    seconds: float

    def fine(self) -> Self:
        """Fail with its last words unless it ended well."""
        assert self.status == 0, "\n".join(self.said[-40:])
        return self


@dataclass
class Running:
    """A command that may run until Ctrl-C."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float

    @property
    def said(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def wait(self, is_done: Callable[[], bool], within_s: float) -> None:
        """Wait for something that it does; fail with its last words where it ends before."""
        while not is_done():
            assert self.process.poll() is None, "\n".join(["it ended", *self.said[-40:]])
            assert self.seconds < within_s, "\n".join(["too late", *self.said[-40:]])
            time.sleep(0.2)

    def interrupt(self) -> None:
        """Type Ctrl-C: all its processes get the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, within_s: float) -> Done:
        """Return what became of it when it has ended by itself; kill it where it does not."""
        try:
            self.process.wait(within_s)
        finally:
            self.process.kill()
            self.process.wait()
        return Done(self.process.returncode, self.said, self.seconds)


@dataclass
class Bare:
    """A system in a folder.

    Attributes:
        root: the folder.
        user: who types the commands.
        times: what was done here, and the seconds that it took.
        place: of the clone, in the user's home.
    """

    root: Path
    user: str
    times: list[tuple[str, float]] = field(default_factory=list)
    place: str = "faceferry"

    @property
    def home(self) -> Path:
        """The user's home, as seen from outside."""
        return self.root / ("root" if self.user == "root" else f"home/{self.user}")

    @property
    def clone(self) -> Path:
        """The project's clone there, as seen from outside."""
        return self.home / self.place

    def start(self, command: str, *, user: str | None = None) -> Running:
        """Start a command in the clone, as if typed into a shell there."""
        user = user or self.user
        inside = "/" + str(self.home.relative_to(self.root))
        settings = [f"HOME={inside}", f"USER={user}", f"PATH={_PATH}", "LANG=C.UTF-8", *_this_machines()]
        # Tests in the background of a shell have SIGINT ignored, and so would all that they start.
        hears_ctrl_c = ["env", "--default-signal=INT,QUIT"]
        ends_with_us = ["setpriv", "--pdeathsig", "KILL"]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        enter: list[str | Path] = ["bash", _HERE / "enter.sh", self.root, _kept(user), user, *settings, "--"]
        line = f"cd '{inside}/{self.place}' 2>/dev/null || cd /; {command}"
        log = self.root.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*hears_ctrl_c, *ends_with_us, *namespaces, *enter, "/bin/bash", "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, log, time.monotonic())

    def run(self, command: str, *, user: str | None = None, within_s: float = 900) -> Done:
        """Run a command in the clone until it ends."""
        return self.start(command, user=user).end(within_s)

    def timed(self, what: str, done: Done) -> Done:
        """Note how long it took."""
        self.times.append((what, done.seconds))
        return done

    def install(self, *packages: str) -> None:
        """Install what this system is meant to have before anybody comes; no list of packages is left."""
        quiet = "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
        script = f"apt-get update -q && {quiet} {' '.join(packages)} && rm -rf /var/lib/apt/lists/*"
        self.run(script, user="root").fine()

    def allow_sudo(self) -> None:
        """Let the user be root by `sudo`, without a password, for nobody is there to type it."""
        self.install("sudo")
        (self.root / f"etc/sudoers.d/{USER}").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")


def _this_machines() -> list[str]:
    """Return the settings by which this machine finds its packages; nothing of them is in the project."""
    given = [f"{name}={os.environ[name]}" for name in (*_MIRRORS, *_PROXIES) if name in os.environ]
    return [*given, f"PIP_CERT={_CERTIFICATES}", "PIP_CACHE_DIR=/var/cache/pip"]


@contextmanager
def bare_system(suite: str, user: str) -> Iterator[Bare]:
    """Lay out a bare system with a clone of the project; one at a time on a machine.

    Skips where it cannot be had: without root or debootstrap.
    """
    if os.geteuid() != 0:
        skip("only root can make a bare system")
    if why := lacks("debootstrap", "unshare", "setpriv"):
        skip(f"no bare system: {why}")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = _FOLDER / "system"
        shutil.rmtree(root, ignore_errors=True)
        bare = Bare(root, user)
        _lay_out(bare, suite)
        try:
            yield bare
        finally:
            shutil.rmtree(root)


def _lay_out(bare: Bare, suite: str) -> None:
    archive = _FOLDER / f"{suite}.tar.gz"
    if not archive.exists():
        subprocess.run(["bash", _HERE / "debootstrap.sh", suite, archive], check=True, timeout=1800)
    bare.root.mkdir()
    subprocess.run(["tar", "-C", bare.root, "-xzf", archive], check=True, timeout=300)
    shutil.copy("/etc/resolv.conf", bare.root / "etc")
    shutil.copy("/etc/hosts", bare.root / "etc")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", bare.root / _CERTIFICATES.lstrip("/"))
    if Path("/etc/pip.conf").exists():
        shutil.copy("/etc/pip.conf", bare.root / "etc")
    bare.run(f"useradd --create-home --shell /bin/bash --uid {_UID} {USER}", user="root").fine()
    _clone(bare)


def _clone(bare: Bare) -> None:
    archive = bare.root / "tmp/project.tar"
    pack(archive)
    bare.clone.mkdir()
    with tarfile.open(archive) as project:
        project.extractall(bare.clone, filter="data")
    archive.unlink()
    bare.run(f"chown -R {bare.user}: .", user="root").fine()


def _kept(user: str) -> Path:
    """Return where pip keeps what it has fetched: a folder of the user's own, as pip insists on."""
    kept = _FOLDER / f"pip-{user}"
    kept.mkdir(exist_ok=True)
    os.chown(kept, *((0, 0) if user == "root" else (_UID, _UID)))
    return kept
