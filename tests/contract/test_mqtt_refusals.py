"""What `Link` makes of a broker that does not let it in, and of what is no broker at all."""

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link, endpoint
from services.common.mqtt import session as mqtt_session
from tests.mqtt_rig import CLOSE, RESET, SILENCE, acting, downs, server
from tests.support import MosquittoServer, eventually

CONNACK = bytes([0x20, 3, 0, 0, 0])


def connack(code: int, **properties: str) -> bytes:
    """Return a CONNACK of MQTT 5 with a reason and texts beside it."""
    kinds = {"server": 0x1C, "reason": 0x1F}
    body = b"".join(
        bytes([kinds[name]]) + len(text).to_bytes(2) + text.encode() for name, text in properties.items()
    )
    return bytes([0x20, 3 + len(body), 0, code, len(body)]) + body


def suback(code: int) -> bytes:
    return bytes([0x90, 4, 0, 1, 0, code])


CASES = {
    "closes at once": ([CLOSE], "closed before CONNACK"),
    "resets at once": ([RESET], "closed before CONNACK"),
    "closes": ([b""], "closed before CONNACK"),
    "closes within CONNACK": ([CONNACK[:3]], "closed before CONNACK"),
    "HTTP": ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak MQTT: it answers b'HTTP/1.1 400"),
    "SSH": ([b"SSH-2.0-OpenSSH_9.2\r\n"], "does not speak MQTT: it answers b'SSH-2.0"),
    "zeros": ([bytes(64)], "does not speak MQTT"),
    "a publication first": ([bytes([0x30, 4, 0, 1, 0x61, 0])], "does not speak MQTT"),
    "TLS": ([bytes([0x15, 3, 1, 0, 2, 2, 70])], "mqtts:// is wanted"),
    "MQTT 3.1.1, which refuses the version": ([bytes([0x20, 2, 0, 1])], "one that speaks MQTT 5 is needed"),
    "MQTT 3.1.1, which refuses the user": ([bytes([0x20, 2, 0, 5])], "does not speak MQTT 5"),
    "MQTT 3.1.1, which takes all": ([bytes([0x20, 2, 0, 0])], "does not speak MQTT 5"),
    "another version": ([connack(0x84)], "refuses: Unsupported protocol version; one that speaks MQTT 5"),
    "bad password": ([connack(0x86)], "refuses: Bad user name or password"),
    "not authorised": ([connack(0x87, reason="expired on Monday")], "Not authorized, expired on Monday"),
    "moved": ([connack(0x9D, server="b.example:8883")], "Server moved, b.example:8883"),
    "unknown code": ([connack(0xC0)], "does not speak MQTT 5"),
    "says goodbye first": ([bytes([0xE0, 1, 0x8B])], "ended it: Server shutting down"),
    "closes after CONNACK": ([CONNACK], "closed before SUBACK"),
    "goodbye after CONNACK": ([CONNACK + bytes([0xE0, 1, 0x98])], "ended it: Administrative action"),
    "refuses the topic": ([CONNACK, suback(0x87)], "refused the subscription to a/topic: Not authorized"),
    "rubbish after CONNACK": ([CONNACK, b"\x90\xff\xff\xff\xff\xff"], "does not speak MQTT 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_a_reason_is_said_at_once_and_once_and_it_is_tried_again_after_growing_waits(case: str) -> None:
    steps, words = CASES[case]
    tries_s: list[float] = []
    act = acting(*steps)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries_s.append(time.monotonic())
        await act(reader, writer)

    began_s = time.monotonic()
    async with server(serve) as port, downs(port) as reasons:
        await eventually(lambda: reasons, 3.0)
        await eventually(lambda: len(tries_s) >= 4, 6.0)
    # Three waits of at least 0.05 s, 0.1 s and 0.2 s: a busy machine makes them longer, never shorter.
    assert 0.35 <= tries_s[-1] - began_s < 6.0
    assert len(reasons) == 1, reasons
    assert words in reasons[0]


@pytest.mark.parametrize(
    ("steps", "words"), [([SILENCE], "no CONNACK within"), ([CONNACK, SILENCE], "no SUBACK within")]
)
async def test_one_that_says_nothing_is_given_up_after_a_while(
    steps: list[bytes], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "FIRST_TIMEOUT_S", 0.5)
    async with server(acting(*steps)) as port, downs(port) as reasons:
        await eventually(lambda: reasons, 3.0)
    assert words in reasons[0]


async def test_each_change_of_the_reason_is_said() -> None:
    answers = iter([b"", b"", connack(0x87), connack(0x87), connack(0x88)])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(next(answers, CONNACK))
        await writer.drain()

    async with server(serve) as port, downs(port) as reasons:
        await eventually(lambda: len(reasons) >= 4, 12.0)
    assert reasons == [
        "closed before CONNACK",
        "the broker refuses: Not authorized",
        "the broker refuses: Server unavailable",
        "closed before SUBACK",
    ]


async def test_why_there_is_no_connection_is_said_where_readiness_is_asked() -> None:
    async with server(acting(connack(0x87))) as port:
        link = Link("cloud", Broker(f"mqtt://127.0.0.1:{port}"), identity="refused")
        async with link:
            await eventually(lambda: "Not authorized" in (link.why_not_ready() or ""))
    assert str(link.why_not_ready()).startswith(f"no connection to 127.0.0.1:{port}: ")


@pytest.mark.parametrize("steps", [[CLOSE], [b""], [b"HTTP/1.1 400 Bad Request\r\n\r\n"]])
async def test_a_failed_handshake_is_said_to_be_one(steps: list[bytes]) -> None:
    async with server(acting(*steps)) as port, downs(port, "mqtts") as reasons:
        await eventually(lambda: reasons, 3.0)
        assert "TLS" in reasons[0] or "reset by peer" in reasons[0]


async def test_a_broker_that_wants_a_certificate_of_ours_says_so(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """With TLS 1.3 that comes after the handshake, in the place of CONNACK."""
    key, cert = certificate
    tls = f"certfile {cert}\nkeyfile {key}\ncafile {cert}\nrequire_certificate true\n"
    tls += "user root\n" if os.geteuid() == 0 else ""  # else it may not read the files
    broker = MosquittoServer(tmp_path, tls).start()
    try:
        async with downs(broker.port, "mqtts", ca_file=cert) as reasons:
            await eventually(lambda: reasons, 5.0)
        assert "certificate required" in reasons[0]
        async with downs(broker.port, "mqtts") as reasons:
            await eventually(lambda: reasons, 5.0)
        assert "certificate verify failed" in reasons[0]
        async with downs(broker.port, "mqtt") as reasons:
            await eventually(lambda: reasons, 5.0)
    finally:
        broker.kill()


@pytest.mark.parametrize("host", ["a..b", "no.such.host.invalid"])
async def test_a_host_that_cannot_be_found_is_named(host: str) -> None:
    link = Link("cloud", Broker(f"mqtt://{host}:1883"), identity="lost")
    async with link:
        await eventually(lambda: "tried yet" not in (link.why_not_ready() or ""), 30)
    assert f"no connection to {host}:1883: " in str(link.why_not_ready())


async def serve_with_keep_alive(
    keep_alive_s: int, patience_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Let a client in that is to be heard from this often, and close when it is silent for too long."""
    await reader.read(4096)
    writer.write(bytes([0x20, 6, 0, 0, 3, 0x13, 0, keep_alive_s]))
    with contextlib.suppress(TimeoutError):
        while data := await asyncio.wait_for(reader.read(4096), patience_s):
            if data[0] == 0x82:
                writer.write(suback(1))
            if data[0] == 0xC0:
                writer.write(bytes([0xD0, 0]))


@pytest.mark.parametrize("keep_alive_s", [1, 2])
async def test_a_broker_that_wants_to_hear_more_often_does(keep_alive_s: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_with_keep_alive(keep_alive_s, 1.5 * keep_alive_s, reader, writer)

    async with server(serve) as port, downs(port) as reasons:
        await asyncio.sleep(6.0)
        assert reasons == []


@pytest.mark.parametrize("keep_alive_s", [0, 200])
async def test_a_broker_that_wants_to_hear_less_often_is_still_known_to_be_dead(
    keep_alive_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "KEEP_ALIVE_S", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(bytes([0x20, 6, 0, 0, 3, 0x13, 0, keep_alive_s]))
        await reader.read(4096)
        writer.write(suback(1))
        while await reader.read(4096):
            pass  # it answers no ping

    async with server(serve) as port, downs(port) as reasons:
        await eventually(lambda: reasons, 8.0)
        assert "nothing was heard" in reasons[0]


async def test_a_password_without_a_user_is_sent_alone() -> None:
    packets: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packets.append(await reader.read(4096))
        writer.write(connack(0x86))
        await writer.drain()

    secret = "geheim-ö" * 20
    async with server(serve) as port, downs(port, password=secret) as reasons:
        await eventually(lambda: reasons)
    connect = packets[0]
    assert connect[0] == 0x10
    length = (connect[1] & 0x7F) + 128 * connect[2]
    assert length == len(connect) - 3
    flags = connect[3 + 7]
    assert flags & 0xC0 == 0x40, "a password and no user"
    assert connect.endswith(len(secret.encode()).to_bytes(2) + secret.encode())
    assert "a password was sent without a user, whom mqtt://user@host names" in reasons[0]
    assert secret not in reasons[0]


async def test_a_real_broker_takes_a_password_alone(broker: MosquittoServer) -> None:
    async with Link("cloud", Broker(broker.url, password="token"), identity="alone") as link:  # noqa: S106
        async with asyncio.timeout(30):
            await link.wait_up()


async def test_the_name_of_a_group_is_not_said_where_a_broker_refuses_it() -> None:
    topic = "$share/a-secret/faceferry/+/+/face"
    async with server(acting(CONNACK, suback(0x87))) as port, downs(port, topic=topic) as reasons:
        await eventually(lambda: reasons, 3.0)
    assert "refused the subscription to faceferry/+/+/face: Not authorized" in reasons[0]
    assert "a-secret" not in reasons[0]


async def test_of_more_topics_one_that_is_refused_is_told_and_the_connection_stays() -> None:
    answer = bytes([0x90, 5, 0, 2, 0, 1, 0x87])
    async with server(acting(CONNACK, suback(1), answer, SILENCE)) as port:
        link = Link("cloud", Broker(f"mqtt://127.0.0.1:{port}"), identity="a", subscriptions=["a/topic"])
        async with link:
            await link.wait_up()
            assert await link.subscribe(["one", "$share/a-secret/two"]) == {"one"}
            assert link.is_up
