import argparse
import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from getpass import getpass
from pathlib import Path

from services.capture.onvif.client import Login
from services.capture.onvif.discovery import PORT, OnvifDevice, named
from services.capture.onvif.search import WAIT_S, AskLogin, network_cameras, search
from services.capture.source.devices import FoundCamera, cameras_of_this_machine
from services.common.errors import SetupError
from services.common.runtime.arguments import host, matching, port, seconds

MOST_WAIT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry cameras`."""
    interfaces = [name for _, name in socket.if_nameindex()]
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--wait",
        type=seconds(MOST_WAIT_S, may_be_none=True),
        default=WAIT_S,
        metavar="S",
        help="how long ONVIF cameras in the network may take to answer; 0: they are not asked; default: "
        "%(default)s",
    )
    parser.add_argument(
        "--host",
        type=host,
        action="append",
        default=[],
        help="an ONVIF camera that is out of reach of a multicast",
    )
    parser.add_argument(
        "--user", metavar="NAME", help="of ONVIF cameras that ask for one; the password is asked for"
    )
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="where that password is instead")
    parser.add_argument(
        "--interface",
        type=matching(f"one of this machine's ({', '.join(interfaces)})", interfaces.__contains__),
        action="append",
        metavar="NAME",
        help="the network interface to ask on, may be given several times; default: all",
    )
    parser.add_argument("--port", type=port, default=PORT, help=argparse.SUPPRESS)  # for tests
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List this machine's and its network's cameras, each with the line to put into the configuration."""
    found = _devices(options)
    cameras = (*cameras_of_this_machine(), *network_cameras(found, _ask_login(options)))
    for camera in cameras:
        print(json.dumps(asdict(camera), default=str) if options.json else _as_text(camera))
    if not cameras and not options.json:
        print("no camera found; those that do not speak ONVIF are named by their rtsp:// or http:// URL")
    return 0


def _devices(options: argparse.Namespace) -> Sequence[OnvifDevice]:
    answered = search(options.wait, options.interface, options.port) if options.wait else ()
    hosts = {device.host for device in answered}
    return (*answered, *(named(host) for host in options.host if host not in hosts))


def _ask_login(options: argparse.Namespace) -> AskLogin:
    """Return what asks for a password: once for all cameras if the user is named, else for each."""
    asked: dict[str, str] = {}

    def ask(device: OnvifDevice) -> Login | None:
        if options.user is not None:
            if not asked:
                asked[options.user] = _password(options)
            return Login(options.user, asked[options.user])
        if not sys.stdin.isatty():
            return None
        who = f"{device.host} ({device.name})" if device.name else device.host
        print(f"{who} wants to know who asks; user (none: leave it): ", end="", file=sys.stderr, flush=True)
        user = sys.stdin.readline().strip()
        return Login(user, getpass()) if user else None

    return ask


def _password(options: argparse.Namespace) -> str:
    if options.password_file is None:
        return getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    try:
        text: str = options.password_file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"--password-file: {error}") from error
    return text.rstrip("\r\n")


def _as_text(camera: FoundCamera) -> str:
    lines = [f"{camera.url}  {camera.name}"]
    lines += [f"    {offered}" for offered in camera.formats]
    lines += [f"    problem: {camera.problem}"] if camera.problem else []
    lines += [f"    FACEFERRY_CAMERAS={camera.line}"] if camera.line and not camera.problem else []
    return "\n".join(lines)
