"""What a user may hand in to a service or a command, as a process of its own: one line, status 2."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

LONG = b"x" * 5_000
NO_UTF8 = b"\xff\xfe"
TIMEOUT_S = 250.0

Variables = Mapping[bytes, bytes]


def of(**settings: bytes) -> Variables:
    return {b"FACEFERRY_" + name.encode(): value for name, value in settings.items()}


EVERYWHERE: Sequence[Variables] = (
    of(HTTP_HOST=b"a..b"),
    of(HTTP_HOST=NO_UTF8),
    of(HTTP_HOST=LONG),
    of(HTTP_HOST=b"no-such-host.invalid"),
    of(HTTP_PORT=b"9" * 5_000),
    of(LOG_LEVEL=b"in\nfo"),
)
LOCAL: Sequence[Variables] = (
    of(DEVICE=NO_UTF8),
    of(LOCAL_MQTT_URL=b"mqtt://a..b"),
    of(LOCAL_MQTT_URL=b"mqtt://\xff@127.0.0.1"),
    of(LOCAL_MQTT_PASSWORD=b"x" * 70_000),
)
CLOUD: Sequence[Variables] = (
    of(CLOUD_MQTT_URL=b"mqtt://127.0.0.1\n"),
    of(CLOUD_CA_FILE=b"/\xff"),
    of(CLOUD_CA_FILE=LONG),
    of(CLOUD_MQTT_PASSWORD_FILE=b"/dev/urandom"),
    of(CLOUD_MQTT_PASSWORD_FILE=LONG),
)
SERVICES: Mapping[str, Sequence[Variables]] = {
    "capture": (
        *LOCAL,
        of(CAMERAS=NO_UTF8),
        of(CAMERAS=b"c=exec:'"),
        of(FFMPEG=LONG),
        of(FFMPEG=b"/etc/passwd"),
        of(JOURNAL_PATH=b"/\xff/x"),
        of(LOCK_PATH=LONG),
        of(LIVE_TOKEN=NO_UTF8 * 10),
    ),
    "detect": (
        *LOCAL,
        of(MODEL=LONG, DETECTOR=b"yunet"),
        of(MODEL=NO_UTF8, DETECTOR=b"yunet"),
        of(MODEL=b"/etc/passwd", DETECTOR=b"yunet"),
        of(MIN_FACE_PX=b"9" * 30),
    ),
    "forward": (
        *LOCAL,
        *CLOUD,
        of(SPOOL_PATH=LONG),
        of(SPOOL_PATH=b"/dev/null/x"),
        of(QUARANTINE_MAX_BYTES=b"9" * 30),
        of(SPOOL_RESERVE_BYTES=b"9" * 30),
    ),
    "store": (
        *CLOUD,
        of(STORE_TOPICS=b"a/#/b"),
        of(STORE_TOPICS=NO_UTF8),
        of(STORE_URL=b"file:///dev/null/x"),
        of(STORE_URL=b"file:///a#b"),
        of(S3_TIMEOUT_S=b"nan"),
    ),
    "gallery": (*CLOUD, of(GALLERY_HOST=b"a..b"), of(GALLERY_TOKEN=NO_UTF8 * 10), of(GALLERY_PORT=b"-1")),
}


def environment(folder: Path, *variables: Variables) -> dict[bytes, bytes]:
    """Return what a service runs with, each with one thing wrong."""
    mine = {name: value for name, value in os.environb.items() if not name.startswith(b"FACEFERRY_")}
    good = of(
        DEVICE=b"porch",
        LOCAL_MQTT_URL=b"mqtt://127.0.0.1:9",
        CLOUD_MQTT_URL=b"mqtts://127.0.0.1:9",
        CAMERAS=b"front=test://",
        STORE_URL=b"file://" + os.fsencode(folder / "faces"),
        SPOOL_PATH=os.fsencode(folder / "spool"),
        GALLERY_PORT=b"0",
        DETECTOR=b"haar",
        LOG_FORMAT=b"json",
        LOG_LEVEL=b"error",
    )
    return {**mine, **good, **{name: value for each in variables for name, value in each.items()}}


def ends(folder: Path, runs: Sequence[tuple[Sequence[bytes], Variables]]) -> list[tuple[int, str]]:
    """Run programs beside each other; return how each ended and what it said."""
    deadline_s = time.monotonic() + TIMEOUT_S
    programs = []
    for number, (arguments, variables) in enumerate(runs):
        with (folder / f"said-{number}").open("wb") as said:
            programs.append(
                subprocess.Popen(
                    [sys.executable, *arguments],
                    env=variables,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                )
            )
    try:
        statuses = [program.wait(max(1.0, deadline_s - time.monotonic())) for program in programs]
    finally:
        for program in programs:
            program.kill()
            program.wait()
    texts = [(folder / f"said-{number}").read_text(errors="replace") for number in range(len(runs))]
    return list(zip(statuses, texts, strict=True))


@pytest.mark.parametrize("service", SERVICES)
def test_what_cannot_be_meant_is_one_line_that_names_it_and_status_2(service: str, tmp_path: Path) -> None:
    wrong = [*EVERYWHERE, *SERVICES[service]]
    runs = [((b"-m", b"services." + service.encode()), environment(tmp_path, each)) for each in wrong]
    for each, (status, said) in zip(wrong, ends(tmp_path, runs), strict=True):
        variable = next(iter(each))
        lines = said.splitlines()
        assert (status, len(lines)) == (2, 1), (each, said)
        names = variable.decode().removesuffix("_FILE")
        assert names in said or each[variable].decode(errors="replace")[:20] in said, (each, said)
        assert "Traceback" not in said


COMMANDS: Sequence[tuple[Sequence[bytes], Variables]] = (
    ((b"up", b"--source", b"/\xff"), {}),
    ((b"up", b"--source", LONG), {}),
    ((b"up", b"--store", NO_UTF8), {}),
    ((b"up", b"--timeout", b"nan"), {}),
    ((b"up", b"--source", b"x.mp4"), {b"XDG_STATE_HOME": b"/dev/null/x"}),
    ((b"up", b"--source", b"x.mp4"), {b"XDG_STATE_HOME": LONG}),
    ((b"up", b"--source", b"x.mp4"), of(GALLERY_PORT="\u00b2".encode())),
    ((b"up", b"--source", b"x.mp4"), of(S3_TIMEOUT_S=b"x")),
    ((b"faces", b"--store", NO_UTF8), {}),
    ((b"faces", b"--limit", b"-3"), {}),
    ((b"spool", NO_UTF8), {}),
    ((b"spool",), of(SPOOL_PATH=LONG)),
    ((b"models", b"fetch", b"yunet_n", b"--into", b"/dev/null"), {}),
    ((b"pki", b"--folder", b"/dev/null", b"init", b"--host", b"a"), {}),
    ((b"pki", b"--folder", LONG, b"init", b"--host", b"a"), {}),
    ((b"pki", b"--owner", b"9" * 400, b"init", b"--host", b"a"), {}),
    ((b"pki", b"init", b"--host", NO_UTF8), {}),
    ((NO_UTF8,), {}),
)


def test_commands_say_in_words_what_cannot_be_meant(tmp_path: Path) -> None:
    runs = [((b"-m", b"services.cli", *words), environment(tmp_path, given)) for words, given in COMMANDS]
    for command, (status, said) in zip(COMMANDS, ends(tmp_path, runs), strict=True):
        assert status == 2, (command, said)
        assert "Traceback" not in said, (command, said)
        assert "faceferry" in said


def test_the_doctor_looks_at_the_rest_whatever_is_wrong_with_one(tmp_path: Path) -> None:
    wrong = (of(SPOOL_PATH=LONG), of(MODEL_DIR=LONG), of(STORE_URL=NO_UTF8), {b"PYTHONIOENCODING": b"ascii"})
    runs = [((b"-m", b"services.cli", b"doctor"), environment(tmp_path, each)) for each in wrong]
    for _status, said in ends(tmp_path, runs):
        assert "Traceback" not in said
        assert "clock" in said.splitlines()[-1]


def test_damaged_certificates_are_named(tmp_path: Path) -> None:
    made = tmp_path / "secrets"
    made.mkdir()
    for name in ("ca.key", "ca.crt", "server.crt"):
        (made / name).write_bytes(NO_UTF8)
    folder = (b"-m", b"services.cli", b"pki", b"--folder", os.fsencode(made))
    for actions in ((b"device", b"porch"), (b"renew", b"_server")):
        ((status, said),) = ends(tmp_path, [((*folder, *actions), environment(tmp_path))])
        assert (status, len(said.splitlines())) == (2, 1)
        assert said.startswith(f"faceferry: {made}/")


ODD_ENVIRONMENT: Sequence[Variables] = (
    {b"PROMETHEUS_MULTIPROC_DIR": b"/no/such"},
    {b"prometheus_multiproc_dir": NO_UTF8},
    {b"PYTHONIOENCODING": b"ascii"},
    {b"LC_ALL": NO_UTF8},
    {b"TMPDIR": b"/no/such"},
    {b"TZ": NO_UTF8},
    {b"HOME": NO_UTF8},
    {b"PATH": b""},
)


@pytest.mark.parametrize("service", SERVICES)
def test_an_odd_environment_keeps_no_service_from_its_settings(service: str, tmp_path: Path) -> None:
    run = (b"-m", b"services." + service.encode(), b"--help")
    runs = [(run, environment(tmp_path, each)) for each in ODD_ENVIRONMENT]
    for each, (status, said) in zip(ODD_ENVIRONMENT, ends(tmp_path, runs), strict=True):
        assert status == 0, (each, said)
        assert "FACEFERRY_LOG_LEVEL" in said
        assert "Traceback" not in said
