"""A real RTSP server, built from this folder with Go and kept in the user's cache."""

import contextlib
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from services.capture.source.ffmpeg import find_ffmpeg
from services.up.brokers import free_port
from tests.conftest import skip
from tests.go_program import GoProgram
from tests.support import wait_for_port

_PROGRAM = GoProgram(
    "rtsp-server", Path(__file__).parent, ("main.go", "go.mod", "go.sum"), ["-trimpath", "."]
)
_BUILD_TIMEOUT_S = 100.0


def build() -> str:
    """Return the server program's path; build it if that has not been done."""
    if (why := _PROGRAM.build(_BUILD_TIMEOUT_S)) is not None:
        skip(f"no RTSP server: {why}")
    return str(_PROGRAM.path)


def free_pair() -> int:
    """Return an even UDP port that is free together with the next."""
    for port in range(20_000, 30_000, 2):
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as first:
            first.bind(("127.0.0.1", port))
            with socket.socket(type=socket.SOCK_DGRAM) as second:
                second.bind(("127.0.0.1", port + 1))
                return port
    raise OSError("no two ports are free")


class RtspServer:
    """The server, which can be frozen, killed and started again on the same port.

    Args:
        program: see `build`.
        login: the user and the password that readers have to know, if any.
        certificate: what to show at `tls_port`, and its key, two files.
        is_udp: whether it speaks that, too.
    """

    def __init__(
        self,
        program: str,
        login: tuple[str, str] | None = None,
        certificate: tuple[Path, Path] | None = None,
        *,
        is_udp: bool = False,
    ) -> None:
        self.tls_port = free_port() if certificate else 0
        self._words = [program]
        if login is not None:
            self._words += ["-user", login[0], "-password", login[1]]
        if certificate is not None:
            shown = ("-certificate", str(certificate[0]), "-key", str(certificate[1]))
            self._words += ["-tls-address", f"127.0.0.1:{self.tls_port}", *shown]
        if is_udp:
            self._words += ["-udp-port", str(free_pair())]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def url(self, path: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{path}"

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [*self._words, "-address", f"127.0.0.1:{self.port}"], stderr=subprocess.DEVNULL
        )
        for port in {self.port, self.tls_port} - {0}:
            wait_for_port(port)
        return self

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Publisher:
    """An IP camera: it sends a clip to the server, over and over, at its own pace."""

    def __init__(self, clip: Path, url: str) -> None:
        self._process = subprocess.Popen(
            [
                *(find_ffmpeg(), "-nostdin", "-loglevel", "error"),
                *("-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"),
                *("-f", "rtsp", "-rtsp_transport", "tcp", url),
            ],
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def as_camera_sends(clip: Path, folder: Path, size: str) -> Path:
    """Return a clip as IP cameras encode: no B-frames, a key frame a second, of a size such as `640x360`."""
    encoded = folder / f"{clip.stem}-{size}.mp4"
    subprocess.run(
        [
            *(
                find_ffmpeg(),
                "-nostdin",
                "-loglevel",
                "error",
                "-i",
                str(clip),
                "-an",
                "-s",
                size,
                "-r",
                "15",
            ),
            *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", str(encoded)),
        ],
        check=True,
    )
    return encoded
