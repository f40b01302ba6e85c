"""What is put in the place of paho's own functions, and a paho that has them no more."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import aiomqtt
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


@pytest.mark.parametrize("name", replaced.OVERRIDDEN)
def test_whatever_is_overridden_and_aiomqtt_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(aiomqtt.Client, name)
    everything = dict.fromkeys((*replaced.FUNCTIONS, *replaced.VARIABLES), id)
    with pytest.raises(SetupError, match=f"aiomqtt .* it has no {name}$"):
        replaced.replace(SimpleNamespace(**everything), Route(), None)


def test_all_that_is_overridden_of_aiomqtt_s_own_is_looked_for() -> None:
    private = {name for name in vars(Connection) if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if hasattr(aiomqtt.Client, name)} == {*replaced.OVERRIDDEN}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_create_socket", "self"),
        ("_easy_log", "self level fmt args"),
        ("_packet_handle", "self"),
        ("_packet_queue", "self command packet mid qos info"),
        ("_packet_read", "self"),
        ("_send_pingreq", "self"),
        ("_sock_close", "self"),
        ("_sock_recv", "self bufsize"),
        ("_sock_send", "self buf"),
        ("_ssl_wrap_socket", "self tcp_sock"),
    ],
)
def test_paho_s_functions_take_what_they_are_given_here(name: str, parameters: str) -> None:
    assert list(inspect.signature(getattr(Client, name)).parameters) == parameters.split()
    assert name in replaced.FUNCTIONS


def test_all_that_is_used_of_paho_s_own_is_looked_for() -> None:
    sources = Path(mqtt.__file__).parent.glob("*.py")
    used = {one or other for source in sources for one, other in _OF_PAHO.findall(source.read_text())}
    assert used == {*replaced.FUNCTIONS, *replaced.VARIABLES}
