"""Whose certificate a camera has to show, and who learns its password: real ffmpeg, servers and TLS."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from services.capture.cameras import parse_camera
from services.capture.check import check_source
from services.capture.source.relay_protocols import open_relay
from services.common.errors import SetupError
from tests.capture_rig import CaptureProcess, Detector
from tests.certificates import Shown, self_signed, signed_for
from tests.hostile_camera import serving
from tests.rtsp.server import Publisher, RtspServer, as_camera_sends, build
from tests.storing import jpeg
from tests.support import MosquittoServer
from tests.webcam import PASSWORD, USER
from tests.webcam import serving as webcam_serving

ODD = "s3cr%t/:@#?"
LOGIN = f"{USER}:{quote(ODD, safe='')}"
WEBCAM_LOGIN = f"{USER}:{quote(PASSWORD, safe='')}"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return signed_for("127.0.0.1", tmp_path_factory.mktemp("good") / "pki")


@pytest.fixture(scope="module")
def wrong_name(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return signed_for("other.example.org", tmp_path_factory.mktemp("wrong") / "pki")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return self_signed(tmp_path_factory.mktemp("own") / "pki")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    return as_camera_sends(clips / "classroom.mp4", tmp_path_factory.mktemp("clip"), "320x180")


@contextmanager
def https_camera(shown: Shown) -> Iterator[str]:
    with serving({"/snap.jpg": jpeg(), "/mjpeg": jpeg() * 20}, tls=shown.context()) as camera:
        yield camera.url("/snap.jpg")


@contextmanager
def rtsps_camera(shown: Shown, clip: Path) -> Iterator[str]:
    server = RtspServer(build(), (USER, ODD), (shown.certificate, shown.key)).start()
    try:
        publisher = Publisher(clip, server.url("street"))
        try:
            yield f"rtsps://{LOGIN}@127.0.0.1:{server.tls_port}/street"
        finally:
            publisher.kill()
    finally:
        server.kill()


async def check(url: str) -> None:
    """Return when there is a picture; a publisher may need a moment until there can be."""
    for _ in range(30):
        try:
            await check_source(parse_camera(f"a={url}"), timeout_s=10)
        except SetupError as error:
            if "404" not in str(error):
                raise
            await asyncio.sleep(0.5)
        else:
            return
    raise AssertionError("the publisher has not come")


async def problem(url: str) -> str:
    with pytest.raises(SetupError) as caught:
        await check(url)
    return str(caught.value)


async def check_trust(url: str, shown: Shown, why_not: str, *, is_ca_enough: bool) -> None:
    """Check that a camera is accepted by each option that vouches for it, and by nothing less."""
    said = await problem(url)
    assert why_not in said
    assert f"tls_sha256={shown.sha256}" in said
    assert "tls_verify=0" in said
    assert "s3cr" not in said
    if is_ca_enough:
        await check(f"{url}?ca_file={shown.authority}")
    else:
        assert "mismatch" in await problem(f"{url}?ca_file={shown.authority}")
    await check(f"{url}?tls_sha256={shown.sha256}")
    await check(f"{url}?tls_verify=0")
    other = await problem(f"{url}?tls_sha256={'ab' * 32}")
    assert "another certificate" in other
    assert "ca_file: No such file" in await problem(f"{url}?ca_file=/no/such/file")


async def test_a_web_camera_s_certificate_is_checked(good: Shown) -> None:
    with https_camera(good) as url:
        await check_trust(url, good, "unable to get local issuer", is_ca_enough=True)


async def test_an_rtsp_camera_s_certificate_is_checked(good: Shown, clip: Path) -> None:
    with rtsps_camera(good, clip) as url:
        await check_trust(url, good, "unable to get local issuer", is_ca_enough=True)


async def test_a_certificate_for_another_name_will_not_do(wrong_name: Shown, clip: Path) -> None:
    with https_camera(wrong_name) as url:
        assert "mismatch" in await problem(f"{url}?ca_file={wrong_name.authority}")
    with rtsps_camera(wrong_name, clip) as url:
        assert "mismatch" in await problem(f"{url}?ca_file={wrong_name.authority}")


async def test_a_camera_that_signed_its_own_is_let_in_by_name_of_that_one(own: Shown, clip: Path) -> None:
    with https_camera(own) as url:
        await check_trust(url, own, "self-signed", is_ca_enough=False)
    with rtsps_camera(own, clip) as url:
        await check_trust(url, own, "self-signed", is_ca_enough=False)


async def test_a_stream_over_tls_is_read(good: Shown) -> None:
    with https_camera(good) as url:
        await check(f"{url.replace('/snap.jpg', '/mjpeg')}?ca_file={good.authority}&format=mjpeg")


@pytest.mark.parametrize(
    ("path", "login"),
    [
        ("/stream", ""),
        ("/stream?pwd=Zq7xT", ""),
        ("/Zq7xT", ""),
        ("/basic", WEBCAM_LOGIN),
        ("/digest", WEBCAM_LOGIN),
        ("/stream?size=160x120", WEBCAM_LOGIN),
    ],
)
async def test_no_command_line_holds_a_web_camera_s_address(
    tmp_path: Path, broker: MosquittoServer, path: str, login: str
) -> None:
    with webcam_serving(jpeg()) as webcam:
        await check_command_lines(tmp_path, broker, webcam.url(path, user=login))


async def test_nor_that_of_an_rtsp_camera_over_tls(
    tmp_path: Path, broker: MosquittoServer, clip: Path, own: Shown
) -> None:
    with rtsps_camera(own, clip) as url:
        await check_command_lines(tmp_path, broker, f"{url}?tls_sha256={own.sha256}")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_nor_an_rtsp_camera_s(
    tmp_path: Path, broker: MosquittoServer, clip: Path, transport: str
) -> None:
    server = RtspServer(build(), (USER, ODD), is_udp=transport == "udp").start()
    with closing(Closing(server, Publisher(clip, server.url("Zq7xT")))):
        url = f"rtsp://{LOGIN}@127.0.0.1:{server.port}/Zq7xT?transport={transport}"
        await check_command_lines(tmp_path, broker, url)


class Closing:
    def __init__(self, *killed: RtspServer | Publisher) -> None:
        self._killed = killed

    def close(self) -> None:
        for each in reversed(self._killed):
            each.kill()


async def check_command_lines(folder: Path, broker: MosquittoServer, url: str) -> None:
    """Look at every program of a capture from its first moment on, until pictures flow."""
    seen: set[str] = set()
    async with Detector(broker.url) as detector:
        await detector.wait_up()
        capture = CaptureProcess(folder, broker.url, f"a={url}")
        try:
            async with asyncio.timeout(40):
                while detector.counts["a"] < 5:
                    seen |= {word for child in capture.children() for word in _command_line(child)}
                    await asyncio.sleep(0.005)
            running = capture.children()
            seen |= {word for child in running for word in _command_line(child)}
        finally:
            capture.kill()
    assert any("ffmpeg" in word or "snapshots" in word for word in seen)
    assert not [word for word in seen for secret in ("s3cr", "Zq7xT", USER) if secret in word]
    assert not [secret for secret in ("s3cr", "Zq7xT") if secret in capture.log]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


KNOCK = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as relay:
    relay.sendall(b"OPTIONS rtsp://127.0.0.1/" + sys.argv[2].encode() + b" RTSP/1.0\\r\\nCSeq: 1\\r\\n\\r\\n")
    print(relay.recv(4096).decode())
"""


async def knock(user: int, url: str) -> str:
    port, _, token = url.removeprefix("rtsp://127.0.0.1:").partition("/")
    words = (
        "setpriv",
        "--reuid",
        str(user),
        "--clear-groups",
        "--",
        sys.executable,
        "-c",
        KNOCK,
        port,
        token,
    )
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_the_relay_tells_only_this_user_where_it_leads() -> None:
    camera = parse_camera("a=rtsp://admin:s3cret@127.0.0.1:9/x")
    async with open_relay(camera) as relay:
        assert relay is not None
        assert "s3cret" in await knock(0, relay.relay_address.url)
        assert "s3cret" not in await knock(65534, relay.relay_address.url)
        assert "s3cret" not in await knock(0, f"{relay.relay_address.url.rpartition('/')[0]}/guess")
