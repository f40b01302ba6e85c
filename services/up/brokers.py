"""What a Mosquitto needs to serve one half of a pipeline on this machine."""

import os
import random
import shutil
import socket
import sys
from pathlib import Path

from services.common.errors import SetupError

MAX_PACKET_BYTES = 8 * 1024 * 1024

# Debian keeps it where not every user's path leads.
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_LOWEST_PORT = 10_000
_TRIES = 100
_CONNECTIONS_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def find_mosquitto() -> str:
    """Return the broker program's path: the system's, or the one that scripts/environment has unpacked.

    Raises:
        SetupError: it is not installed.
    """
    folders = [os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS, str(Path(sys.prefix, "bin"))]
    program = shutil.which("mosquitto", path=os.pathsep.join(folders))
    if program is None:
        raise SetupError(
            "the Mosquitto broker is not installed: run ./scripts/up, which installs it, or as root "
            "`apt-get install -y mosquitto`"
        )
    return program


def loopback_config(port: int, passwords: Path | None = None) -> str:
    """Return the configuration of a broker that only this machine can reach.

    Args:
        port: its port.
        passwords: Mosquitto's file of them; without it, everybody on this machine is let in.

    Nothing is persistent: no promise of this project rests on a broker's memory. Packets above 2,000,000
    bytes would close the connection (Mosquitto 2.1) without `max_packet_size`.
    """
    access = ["allow_anonymous true"]
    if passwords is not None:
        access = ["allow_anonymous false", f"password_file {passwords}"]
        # Started by root it would become another user first, who may not read the file.
        access += ["user root"] if os.geteuid() == 0 else []
    return "\n".join(
        [
            f"listener {port} 127.0.0.1",
            *access,
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
    """Return a loopback port that nobody listens on just now: the preferred one, if it is free.

    Else it is one below those that the system gives to connections: until it is used, services connect to
    their brokers, and one of them could be given just this one.
    """
    below = range(_LOWEST_PORT, _first_of_connections())
    for port in (preferred, *random.sample(below, min(_TRIES, len(below)))):
        if port and _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        any_port: int = probe.getsockname()[1]
    return any_port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _first_of_connections() -> int:
    try:
        return int(_CONNECTIONS_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LOWEST_PORT
