"""`faceferry up` on a machine that others have accounts on: nothing of it is theirs, loopback or not."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.publish as paho_publish
import psutil
import pytest
from paho.mqtt import MQTTException

from services.up.passwords import USER, other_accounts
from tests.conftest import skip
from tests.storing import images_in, png
from tests.support import SHARED, eventually

SOMEBODY_ELSE = 54_321
BECOME = f"""
import os, pathlib, socket, sys
os.setgroups([]); os.setgid({SOMEBODY_ELSE}); os.setuid({SOMEBODY_ELSE})
for path in sys.argv[2:]:
    try:
        print(pathlib.Path(path).read_bytes())
    except PermissionError:
        print("refused")
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
line.sendall(bytes([0x10, 13]) + b"\\0\\4MQTT\\4\\2\\0\\x0a\\0\\1x")
print(line.recv(4))
"""


@dataclass
class Run:
    process: subprocess.Popen[bytes]
    log_path: Path
    store: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def found(self, pattern: str) -> str:
        found = re.search(pattern, self.log)
        assert found, self.log
        return found[1]

    @property
    def password_path(self) -> Path:
        return Path(self.found(r"ask for what (.+) holds"))

    @property
    def password(self) -> str:
        return self.password_path.read_text().strip()

    def port(self, broker: str) -> int:
        return int(self.found(rf"{broker} broker mqtt://127\.0\.0\.1:(\d+)"))


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    model_dir = Path(os.environ.get("FACEFERRY_MODEL_DIR", SHARED / "models"))
    if not (model_dir / "yunet_n_dynamic.onnx").exists():
        skip("no YuNet model: name its folder in FACEFERRY_MODEL_DIR")
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    own = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "FACEFERRY_MODEL_DIR": str(model_dir),
        "FACEFERRY_DEVICE": "edge",
        "FACEFERRY_CLOUD_MQTT_PASSWORD": "of another broker",
    }
    log, store = tmp_path / "log", tmp_path / "faces"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else is to run meanwhile
            [sys.executable, "-m", "services.cli", "up", "--shared", "yes", "--source", "front=test://",
             "--store", str(store)],
            env={**os.environ, **own}, stdout=file, stderr=file,
        )  # fmt: skip
    found = Run(process, log, store)
    try:
        await eventually(lambda: len(set(re.findall(r"(\w+) *\| mqtt.link_up", found.log))) == 5, 60)
        yield found
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_others_are_those_who_could_sit_down_here() -> None:
    def account(name: str, uid: int, shell: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", uid, uid, "", "/", shell))

    here = [
        account("root", 0, "/bin/bash"),
        account("me", 1_000, "/bin/bash"),
        account("postgres", 105, "/bin/bash"),
        account("ftp", 1_001, "/usr/sbin/nologin"),
        account("nobody", 65_534, "/bin/sh"),
    ]
    assert other_accounts(here, 1_000) == []
    assert other_accounts(here, 0) == ["me"]
    assert other_accounts([*here, account("you", 1_002, "/usr/bin/zsh"), account("a", 9_999, "")], 1_000) == [
        "a",
        "you",
    ]


def test_brokers_and_pages_ask_for_the_password_of_the_run_and_it_is_nowhere_else(run: Run) -> None:
    password = run.password
    assert len(password) >= 24
    assert password not in run.log
    family = psutil.Process(run.process.pid).children(recursive=True)
    assert len(family) >= 7
    for each in family:
        assert password not in " ".join(each.cmdline())
        assert password not in str(each.environ())
    for path in run.password_path.parent.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    page, live = re.search(r"the faces at (\S+), and at the cameras at (\S+)", run.log).groups()  # type: ignore[union-attr]
    for address in (page, live):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address, timeout=10)  # noqa: S310 - what `up` printed
        assert caught.value.code == 401
        caught.value.close()
        asking = urllib.request.Request(address, headers={"Authorization": f"Bearer {password}"})  # noqa: S310
        with urllib.request.urlopen(asking, timeout=10) as answer:  # noqa: S310
            assert answer.status == 200


def publish(port: int, image: bytes, password: str | None) -> None:
    auth: Any = {"username": USER, "password": password} if password else None
    paho_publish.single("test_topic", image, qos=1, port=port, hostname="127.0.0.1", auth=auth)


async def test_a_bare_image_comes_in_with_the_password_and_not_without(run: Run) -> None:
    for broker in ("local", "cloud"):
        for wrong in (None, "guessed"):
            with pytest.raises(MQTTException):
                publish(run.port(broker), png(3), wrong)
        publish(run.port(broker), png(3), run.password)
    await eventually(lambda: len(images_in(run.store)) == 2)


async def test_mosquittos_own_client_is_let_in_as_the_log_says(run: Run, tmp_path: Path) -> None:
    program = shutil.which("mosquitto_pub")
    if program is None:
        skip("no mosquitto_pub: Debian has it in the package mosquitto-clients")
    assert program is not None
    (tmp_path / "face.png").write_bytes(png(4))
    command = [program, "-h", "127.0.0.1", "-p", str(run.port("local")), "-q", "1", "-t", "test_topic",
               "-f", str(tmp_path / "face.png")]  # fmt: skip
    bare = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    assert subprocess.run(command, env=bare, check=False, timeout=30).returncode != 0  # noqa: ASYNC221
    told = {**bare, "XDG_CONFIG_HOME": run.found(r"XDG_CONFIG_HOME=(\S+) mosquitto_pub")}
    assert subprocess.run(command, env=told, check=False, timeout=30).returncode == 0  # noqa: ASYNC221
    await eventually(lambda: len(images_in(run.store)) == 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_somebody_else_reads_no_password_and_gets_into_no_broker(run: Run) -> None:
    files = [path for path in run.password_path.parent.rglob("*") if path.is_file()]
    assert len(files) == 4
    for broker in ("local", "cloud"):
        done = subprocess.run(  # noqa: ASYNC221
            ["/usr/bin/python3", "-c", BECOME, str(run.port(broker)), *map(str, files)],
            cwd="/", check=True, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        *read, connack = done.stdout.splitlines()
        assert read == ["refused"] * 4
        assert connack == repr(b" \x02\x00\x05")  # not authorised
