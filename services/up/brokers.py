"""Finds Mosquitto and a free port, and makes a configuration for this machine only."""

import os
import random
import shutil
import socket
import sys
from pathlib import Path

from services.common.errors import SetupError

MAX_PACKET_BYTES = 8 * 1024 * 1024

# Debian has it in a folder that is not on every user's path.
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_LOWEST_PORT = 10_000
_TRIES = 100
_CONNECTIONS_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_GIVEN: set[int] = set()
"""Ports that this process has given away: free until their service listens, and not to be given twice."""


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
        passwords: Mosquitto's password file; None: every user of this machine has access.

    Nothing is persistent: no promise of this project rests on a broker's memory. Packets above 2,000,000
    bytes would close the connection (Mosquitto 2.1) without `max_packet_size`.
    """
    access = ["allow_anonymous true"]
    if passwords is not None:
        access = ["allow_anonymous false", f"password_file {passwords}"]
        # Started by root it changes to another user, who may not read the file.
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
    """Return a free loopback port, each time another one: the preferred one, if it is free.

    Else it is below the range from which the system takes ports of outgoing connections, because a service
    that connects to its broker could be given the port before it is used.
    """
    below = range(_LOWEST_PORT, _first_of_connections())
    for port in (preferred, *random.sample(below, min(_TRIES, len(below)))):
        if port and port not in _GIVEN and _is_free(port):
            _GIVEN.add(port)
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
