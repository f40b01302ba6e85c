"""What a Mosquitto needs to serve one half of a pipeline on this machine."""

import os
import shutil
import socket

from services.common.errors import SetupError

MAX_PACKET_BYTES = 8 * 1024 * 1024


def find_mosquitto() -> str:
    """Return the broker program's path.

    Raises:
        SetupError: it is not installed.
    """
    # Debian keeps it in /usr/sbin, which is not on every user's path.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise SetupError(
            "the Mosquitto broker is not installed: run ./scripts/up, which installs it, or "
            "`apt-get install mosquitto`"
        )
    return program


def loopback_config(port: int) -> str:
    """Return the configuration of a broker that only this machine can reach.

    Nothing is persistent: no promise of this project rests on a broker's memory. Packets above 2,000,000
    bytes would close the connection (Mosquitto 2.1) without `max_packet_size`.
    """
    return "\n".join(
        [
            f"listener {port} 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
            "set_tcp_nodelay true",
            f"max_packet_size {MAX_PACKET_BYTES}",
            "max_inflight_messages 1000",
            "max_queued_messages 4000",
            "max_queued_bytes 67108864",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "",
        ]
    )


def free_port(preferred: int = 0) -> int:
    """Return a loopback port that nobody listens on just now: the preferred one, if it is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
