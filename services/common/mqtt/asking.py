"""Asking a broker whether it lets us in, without staying."""

import secrets
from contextlib import suppress

import aiomqtt

from services.common.errors import FaceferryError
from services.common.mqtt.broker import Broker
from services.common.mqtt.credentials import Credentials
from services.common.mqtt.joining import make_connection
from services.common.mqtt.limits import Limits
from services.common.mqtt.line import Line

KEEP_ALIVE_S = 15


class BrokerUnavailable(FaceferryError):
    """A broker does not let us in; says why."""


async def look_at(broker: Broker) -> Limits:
    """Return what a broker says of itself.

    Raises:
        BrokerUnavailable: it does not let us in, or is not there.
        SetupError: certificate files that cannot be used.
    """
    return await ask(Line(broker, Credentials("look", broker)), "doctor")


async def ask(line: Line, identity: str) -> Limits:
    """Return what a broker says of itself, over a connection of its own, which leaves any other alone.

    Args:
        line: to the broker.
        identity: `{service}-{device}`; the client id is this and a random end.

    Raises:
        BrokerUnavailable: it does not let us in, or is not there.
    """
    said = Limits()

    def note(limits: Limits) -> None:
        nonlocal said
        said = limits

    client = make_connection(
        line,
        f"{identity}-{secrets.token_hex(4)}",
        keep_alive_s=KEEP_ALIVE_S,
        receive_maximum=1,
        will=None,
        on_limits=note,
    )
    try:
        await client.connect()
        with suppress(aiomqtt.MqttError):
            await client.say_goodbye()
    except aiomqtt.MqttError as error:
        raise BrokerUnavailable(str(error)) from error
    finally:
        client.close()
    return said
