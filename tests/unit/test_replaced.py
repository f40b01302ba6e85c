"""What is put in the place of paho's own functions, and a paho that has them no more."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from paho.mqtt.client import Client

from services.common import mqtt
from services.common.errors import SetupError
from services.common.mqtt import replaced
from services.common.mqtt.connection import Connection
from services.common.mqtt.liveness import Heartbeat
from services.common.mqtt.sockets import Route

_OF_PAHO = re.compile(r"\b(?:paho|_client)\.(_[a-z_]+)|\bclient\.(_out_packet)")


async def test_a_connection_is_not_begun_with_a_paho_that_lacks_what_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(Client, "_create_socket")
    with pytest.raises(SetupError, match="it has no _create_socket"):
        Connection("127.0.0.1", 1, timeout_s=1.0, heartbeat=Heartbeat(), route=Route())


@pytest.mark.parametrize("name", [*replaced.FUNCTIONS, *replaced.VARIABLES])
def test_whatever_of_it_paho_lacks_is_named(name: str) -> None:
    others = {each: id for each in (*replaced.FUNCTIONS, *replaced.VARIABLES) if each != name}
    with pytest.raises(SetupError, match=f"it has no {name}$"):
        replaced.replace(SimpleNamespace(**others), Route(), None)


def test_all_that_is_used_of_paho_s_own_is_looked_for() -> None:
    sources = Path(mqtt.__file__).parent.glob("*.py")
    used = {one or other for source in sources for one, other in _OF_PAHO.findall(source.read_text())}
    assert used == {*replaced.FUNCTIONS, *replaced.VARIABLES}
