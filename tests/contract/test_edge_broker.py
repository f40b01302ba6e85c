"""The device's broker with its second door, as compose/edge/home-assistant.yaml opens it."""

import getpass
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire.message import Message
from services.up.brokers import find_mosquitto, free_port
from tests.conftest import skip
from tests.support import eventually, wait_for_port

FILES = Path(__file__).parents[2] / "compose" / "edge" / "broker"
PASSWORD = "under-the-doormat"  # noqa: S105 - of a broker of the test's own


class Doors:
    """Where the device's own services come in, and where Home Assistant does."""

    def __init__(self, own: int, theirs: int) -> None:
        self.own = Broker(f"mqtt://127.0.0.1:{own}")
        self.theirs_url = f"mqtt://homeassistant@127.0.0.1:{theirs}"
        self.theirs = Broker(self.theirs_url, password=PASSWORD)


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    """The broker, by its own script, with ports and places of this machine."""
    mosquitto = find_mosquitto()
    made = subprocess.run(
        ["mosquitto_passwd", "-c", "-b", tmp_path / "home-assistant-passwords", "homeassistant", PASSWORD],
        check=False,
        capture_output=True,
    )
    if made.returncode != 0:
        skip("no mosquitto_passwd")
    own, theirs = free_port(), free_port()
    changes = {
        # As root it would become another, who may not look into the test's folder.
        "listener 1883": f"user {getpass.getuser()}\nlistener {own} 127.0.0.1",
        "listener 1884": f"listener {theirs} 127.0.0.1",
        "/tmp/": f"{tmp_path}/kept/",  # noqa: S108 - as the file says it
        "/run/secrets/": f"{tmp_path}/",
    }
    for file in FILES.iterdir():
        text = file.read_text()
        for before, after in changes.items():
            text = text.replace(before, after)
        (tmp_path / file.name).write_text(text)
    (tmp_path / "kept").mkdir()
    environment = {
        "PATH": f"{Path(mosquitto).parent}{os.pathsep}{os.defpath}",
        "TMPDIR": str(tmp_path / "kept"),
    }
    process = subprocess.Popen(
        ["/bin/sh", tmp_path / "start-for-home-assistant"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(own)
        wait_for_port(theirs)
        yield Doors(own, theirs)
    finally:
        process.kill()
        process.wait()


async def test_home_assistant_hears_what_it_makes_entities_of_and_no_more(doors: Doors) -> None:
    heard: list[str] = []
    public = [
        "faceferry/a/b/latest",
        "faceferry/a/b/home",
        "faceferry/a/b/status",
        "homeassistant/device/x/config",
    ]
    private = [
        "faceferry/a/b/frame",
        "faceferry/a/b/face",
        "faceferry/a/b/seen",
        "faceferry/a/taken",
        "other",
    ]
    async with (
        Link("own", doors.own, identity="own", subscriptions=["#"]) as own,
        Link("theirs", doors.theirs, identity="theirs", subscriptions=["#"]) as theirs,
    ):
        await own.wait_up()
        await theirs.wait_up()
        for topic in (*private, *public):
            own.publish(Message(topic=topic, payload=b"x", qos=1))
        while len(heard) < len(public):
            heard.append((await anext(theirs)).topic)
        assert sorted(heard) == sorted(public)


async def test_home_assistant_writes_nothing_of_ours(doors: Doors) -> None:
    answers: dict[str, str | None] = {}
    topics = (
        "faceferry/a/b/face",
        "faceferry/a/taken",
        "homeassistant/device/x/config",
        "homeassistant/status",
    )
    async with Link("theirs", doors.theirs, identity="theirs", subscriptions=[]) as theirs:
        await theirs.wait_up()
        for topic in topics:
            theirs.publish(Message(topic=topic, payload=b"x", qos=1), partial(answers.__setitem__, topic))
        await eventually(lambda: len(answers) == len(topics))
    refused = {topic for topic, why in answers.items() if why == "not_authorized"}
    assert refused == answers.keys() - {"homeassistant/status"}


async def test_nobody_comes_in_there_without_the_password(doors: Doors) -> None:
    for broker in (
        Broker(doors.theirs_url, password="guessed"),  # noqa: S106
        Broker(doors.theirs_url.replace("homeassistant@", "")),
    ):
        async with Link("theirs", broker, identity="theirs", subscriptions=[]) as link:
            await eventually(lambda link=link: "refuses" in (link.why_not_ready() or ""))  # type: ignore[misc]
