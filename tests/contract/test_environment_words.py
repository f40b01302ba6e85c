"""What `scripts/environment` does and says where something is missing; stand-ins play the system.

`tests/newcomer` shows the same on bare systems.
"""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A bare Debian: its Python has no ensurepip, there is no broker, and nobody is root. What is called is noted.
BARE = """
    note() { printf '%s\\n' "$*" >>calls; }
    without=sudo
    has() { case " $without " in *" $1 "*) return 1 ;; esac; command -v "$1" >/dev/null; }
    id() { echo 1000; }
    has_mosquitto() { grep -qs 'apt-get install' calls; }
    has_ensurepip() { grep -qs 'apt-get install' calls; }
    has_certificates() { true; }
    any_python() { echo python3; }
    python3() { case "$*" in *-venv*) echo python3.13-venv ;; esac; }
    make_venv() { note "make_venv $1"; mkdir -p "$venv/bin"; }
    install_packages() { note "install_packages $1"; }
    env() { shift; "$@"; }
    apt-get() {
        note apt-get "$*"
        case "$*" in
            *' -s '*) printf '%s\\n' 'Inst libcjson1 (1)' 'Inst mosquitto (2)' 'Conf mosquitto' ;;
            *' download '*) touch libcjson1.deb mosquitto.deb; echo Get:1 libcjson1 ;;
            *) echo Reading package lists... ;;
        esac
    }
    dpkg-deb() {
        note dpkg-deb "$1" "${2##*/}"
        mkdir -p "$3/usr/sbin"
        printf '#!/bin/sh\\necho mosquitto version 2\\n' >"$3/usr/sbin/mosquitto"
        chmod +x "$3/usr/sbin/mosquitto"
    }
"""
AS_ROOT = "id() { echo 0; }"
WITH_SUDO = 'without=; sudo() { note sudo; "$@"; }'
HAS_PIP = "has_ensurepip() { true; }"


class System:
    """A folder with the project's scripts, on a system that stand-ins play."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        (folder / "requirements").mkdir()

    def do(self, what: str, *differences: str) -> tuple[int, list[str]]:
        """Run a part of the script on a bare system with some differences; return its status and words."""
        script = "\n".join(["source scripts/environment", textwrap.dedent(BARE), *differences, what])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert not done.stdout
        return done.returncode, done.stderr.splitlines()

    def prepare(self, *differences: str) -> tuple[int, list[str]]:
        return self.do("prepare up mosquitto", *differences)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path / "faceferry")


PACKAGES = "mosquitto python3.13-venv"
BY_HAND = f"as root: apt-get update && apt-get install -y {PACKAGES}"
INSTALLED = [
    "apt-get update -q",
    f"apt-get install -y -q --no-install-recommends {PACKAGES}",
    "make_venv it is not there",
    "install_packages up",
]


def test_root_has_all_that_is_missing_installed_at_once(system: System) -> None:
    assert system.prepare(AS_ROOT) == (0, [f"installing {PACKAGES} with apt-get"])
    assert system.calls == INSTALLED


def test_who_has_sudo_is_root_for_that(system: System) -> None:
    assert system.prepare(WITH_SUDO) == (0, [f"installing {PACKAGES} with sudo apt-get"])
    assert [call for call in system.calls if call != "sudo"] == INSTALLED
    assert system.calls.count("sudo") == 2


def test_lists_that_cannot_be_updated_may_be_good_enough(system: System) -> None:
    stale = 'apt-get() { note apt-get "$*"; [ "$1" != update ]; }'
    assert system.prepare(AS_ROOT, stale)[0] == 0
    assert system.calls == INSTALLED


def test_root_whose_apt_fails_is_told_what_to_try(system: System) -> None:
    broken = "apt-get() { echo 'E: Unable to locate package mosquitto' >&2; return 100; }"
    status, said = system.prepare(AS_ROOT, broken)
    assert status == 2
    assert said[-1] == f"apt-get did not install {PACKAGES}, and says why above; to try it {BY_HAND}"
    assert "E: Unable to locate package mosquitto" in said


WITHOUT_ROOT = (
    "without root: unpacking mosquitto into .venv "
    "(or install it as root: apt-get update && apt-get install -y mosquitto)"
)


def test_without_root_the_broker_is_unpacked_and_the_line_for_root_said_once(system: System) -> None:
    assert system.prepare(HAS_PIP) == (0, [WITHOUT_ROOT])
    assert not [call for call in system.calls if call.startswith("apt-get install")]
    assert "dpkg-deb -x mosquitto.deb" in system.calls
    assert "dpkg-deb -x libcjson1.deb" in system.calls
    broker = system.folder / ".venv/bin/mosquitto"
    assert subprocess.check_output([broker], text=True) == "mosquitto version 2\n"
    assert not list((system.folder / ".venv/debian").glob("apt*"))


def test_an_unpacked_broker_is_used_as_long_as_it_starts(system: System) -> None:
    system.prepare(HAS_PIP)
    fine = "venv_problem() { :; }"
    assert system.prepare(HAS_PIP, fine) == (0, [])
    broker = system.folder / ".venv/debian/usr/sbin/mosquitto"
    broker.write_text("#!/bin/sh\necho libcjson.so.1: cannot open shared object file >&2\nexit 127\n")
    assert system.prepare(HAS_PIP, fine) == (0, [WITHOUT_ROOT])


def test_an_environment_made_anew_gets_its_broker_anew(system: System) -> None:
    system.prepare(HAS_PIP)
    assert system.prepare(HAS_PIP, "venv_problem() { echo 'it was made in another place'; }") == (
        0,
        [WITHOUT_ROOT],
    )


def test_sudo_that_may_not_is_said_and_done_without(system: System) -> None:
    refusing = "without=; sudo() { echo 'anna is not in the sudoers file.' >&2; return 1; }"
    status, said = system.prepare(HAS_PIP, refusing)
    assert status == 0
    assert said[0] == "installing mosquitto with sudo apt-get"
    assert said[-2:] == ["sudo did not install mosquitto, and says why above", WITHOUT_ROOT]


def test_pip_is_unpacked_where_python_comes_without_it(system: System) -> None:
    none = 'unpack() { note unpack "$*"; false; }'
    status, said = system.prepare(none)
    assert "unpack mosquitto python3-pip-whl" in system.calls
    assert status == 2
    assert said == [
        f"without root: unpacking {PACKAGES} into .venv (or install it {BY_HAND})",
        f"unpacking without root failed, and says why above; {BY_HAND}",
    ]


def test_without_root_and_python_one_line_names_all_that_is_missing(system: System) -> None:
    nothing = "any_python() { :; }; without='sudo python3'; has_certificates() { false; }"
    by_hand = "as root: apt-get update && apt-get install -y mosquitto python3 python3-venv ca-certificates"
    said = [f"needed, and neither root nor sudo to install it; {by_hand}"]
    assert system.prepare(nothing) == (2, said)
    assert system.calls == []


def test_another_distribution_is_told_what_to_install(system: System) -> None:
    assert system.prepare(AS_ROOT, HAS_PIP, "without='sudo apt-get'") == (
        2,
        ["please install: mosquitto (this is no Debian or Ubuntu, so it was not done for you)"],
    )


def test_a_python_that_is_too_old_is_named_with_its_version(system: System) -> None:
    old = "is_new_enough() { false; }; any_python() { :; }; python3() { echo , and this is 3.9.2; }"
    status, said = system.do("find_python", old)
    assert (status, said) == (
        2,
        ["Python 3.11 or newer is needed, and this is 3.9.2 (FACEFERRY_PYTHON names one)"],
    )


def test_a_python_that_was_named_is_not_passed_over_in_silence(system: System) -> None:
    status, said = system.do("FACEFERRY_PYTHON=python2.7; source scripts/environment; prepare up")
    assert (status, said) == (2, ["FACEFERRY_PYTHON: python2.7 is no Python 3.11 or newer"])


def test_an_environment_that_belongs_to_another_is_not_written_to(system: System) -> None:
    (system.folder / ".venv").mkdir()
    owner = (system.folder / ".venv").owner()
    said = [f"{system.folder}/.venv belongs to {owner}: give it to yourself, or remove it"]
    assert system.prepare("is_ours() { false; }") == (2, said)
    assert system.calls == []


def test_what_takes_its_time_says_so(system: System) -> None:
    lines = "{ echo first; sleep 1.3; echo '  Collecting numpy==2.3 (from -r up.txt (line 7))'; sleep 1.5; }"
    status, said = system.do(f"pace_s=1; {lines} | paced")
    assert status == 0
    assert [line.split(": ")[1] for line in said] in (
        ["first", "Collecting numpy==2.3"],
        ["first", "Collecting numpy==2.3", "Collecting numpy==2.3"],
        ["Collecting numpy==2.3"],
    )


def test_a_package_whose_writing_was_interrupted_is_written_again(system: System) -> None:
    packages = system.folder / ".venv/lib/python3.13/site-packages"
    for name, files in {"whole": ("METADATA", "INSTALLER", "RECORD"), "torn": ("METADATA", "RECORD")}.items():
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
        for file in files:
            (packages / f"{name}-1.dist-info" / file).touch()
    assert system.do("forget_incomplete") == (0, [])
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_a_pip_that_fails_is_said_in_one_line_below_its_own_words(system: System) -> None:
    (system.folder / "requirements/up.txt").write_text("numpy==2.3 \\\n    --hash=sha256:0\nuvloop==1\n")
    (system.folder / "pyproject.toml").touch()
    python = system.folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\necho Collecting numpy\necho 'ERROR: No matching distribution' >&2\nexit 1\n"
    )
    python.chmod(0o755)
    real = "unset -f install_packages; source scripts/environment; install_packages up"
    assert system.do(real) == (
        2,
        [
            "installing 2 Python packages into .venv",
            "ERROR: No matching distribution",
            "pip did not install them, and says why above; started again it goes on with what it has got",
        ],
    )
