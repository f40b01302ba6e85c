import argparse
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from services.common.errors import SetupError
from services.pki import certificates, register
from services.pki.files import Owner
from services.pki.folder import PkiFolder
from services.pki.register import Issued

CONTAINER_USER = Owner(10001, 10001)
"""The user as whom containers run by default."""
ITS_NAME = "faceferry pki"
_NO_ID = 2**32 - 1
"""chown(2) takes it as `unchanged`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry pki`."""
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("secrets"),
        metavar="FOLDER",
        help="where all of it lies; default: secrets, which compose/cloud takes it from",
    )
    parser.add_argument(
        "--owner",
        type=_owner,
        default=CONTAINER_USER,
        metavar="UID:GID",
        help="who the containers run as: theirs are the keys in the bundles, and those of the broker, the "
        "store and the gallery if root makes them; default: 10001:10001",
    )
    # In a container: the command to show in messages, by which this was started.
    parser.add_argument("--called", metavar="COMMAND", help=argparse.SUPPRESS)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="make the authority, and the certificates of the cloud's side")
    init.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="NAME_OR_IP",
        help="under which devices reach the broker; may be given more than once",
    )
    device = actions.add_parser("device", help="make a device's certificate, and the bundle to copy to it")
    device.add_argument("name", metavar="NAME", help="its FACEFERRY_DEVICE")
    actions.add_parser(
        "erasure",
        help="make the key that erasures are ordered with, and its public part for devices and stores",
    )
    revoke = actions.add_parser(
        "revoke", help="revoke all certificates of a device or a service: the broker refuses them"
    )
    revoke.add_argument("name", metavar="NAME", help="a device's, _store or _gallery")
    revoke.add_argument(
        "--serial", type=_serial, metavar="HEX", help="only the one that `list` shows with this number"
    )
    renew = actions.add_parser("renew", help="replace a certificate before it expires")
    renew.add_argument("name", metavar="NAME", help="a device's, _server, _store or _gallery")
    renew.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME_OR_IP",
        help="for _server: under which devices reach the broker from now on; default: as before",
    )
    renew.add_argument(
        "--add-host",
        action="append",
        default=[],
        metavar="NAME_OR_IP",
        help="for _server: under which devices reach the broker besides",
    )
    listing = actions.add_parser("list", help="show all certificates that were made, and their state")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make, replace, revoke and show certificates."""
    folder = PkiFolder(options.folder, options.owner)
    actions = {
        "init": _init,
        "device": _device,
        "erasure": _erasure,
        "revoke": _revoke,
        "renew": _renew,
        "list": _list,
    }
    called = options.called or ITS_NAME
    try:
        if options.called:
            _check_container_user(options.folder)
        for line in actions[options.action](folder, options, datetime.now(UTC)):
            print(line.replace(ITS_NAME, called))
    except SetupError as error:
        raise SetupError(str(error).replace(ITS_NAME, called)) from error
    return 0


def _check_container_user(folder: Path) -> None:
    """Return if this container runs as the folder's owner, who alone can read what is made there.

    Raises:
        SetupError: it does not, or it runs as root.
    """
    uid, gid = os.geteuid(), os.getegid()
    owner = folder.stat()
    if uid == 0:
        raise SetupError(
            "containers are not to run as root: FACEFERRY_UID=10001 and FACEFERRY_GID=10001 in .env, and "
            f"chown -R 10001:10001 {folder}; or do all of this as another user in the group docker"
        )
    if owner.st_uid != uid:
        theirs = f"{owner.st_uid}:{owner.st_gid}"
        lines = f"FACEFERRY_UID={owner.st_uid} and FACEFERRY_GID={owner.st_gid} in .env"
        how = lines if owner.st_uid else f"chown -R {uid}:{gid} {folder}"
        raise SetupError(f"{folder} belongs to {theirs}, and containers run as {uid}:{gid}: {how}")


def _init(folder: PkiFolder, options: argparse.Namespace, now: datetime) -> Iterator[str]:
    folder.init(options.host, now)
    yield f"made in {folder.path}: the authority, and certificates of broker, store and gallery"
    yield "ca.key signs for every device: keep a copy of it elsewhere, and best of all only there"
    if os.geteuid() != 0 and not options.called:
        yield f"the keys are yours, so compose/cloud/.env needs {_user_lines()}"
    yield "next: faceferry pki device NAME, for each device"


def _device(folder: PkiFolder, options: argparse.Namespace, now: datetime) -> Iterator[str]:
    yield _how_to_install(folder.add_device(options.name, now), options.name)


def _erasure(folder: PkiFolder, _options: argparse.Namespace, _now: datetime) -> Iterator[str]:
    made = folder.add_erasure_key()
    yield f"made in {folder.path}: erase.key, which orders erasures: keep it where you erase from, alone"
    yield f"{made} is public: new bundles have it. Copy it into secrets/ of the devices that there are, and"
    yield "say FACEFERRY_ERASE_KEY_FILE=./secrets/erase.pub in .env there and in compose/cloud"


def _revoke(folder: PkiFolder, options: argparse.Namespace, now: datetime) -> Iterator[str]:
    revoked = folder.revoke(options.name, now, options.serial)
    for each in revoked:
        yield f"revoked {each.name} {each.serial}, valid until {_day(each)}"
    if not revoked:
        yield (
            f"{options.name}: all that was asked for has expired or was revoked before; the list is as it was"
        )
    issued = folder.issued()
    if register.may_be_incomplete(issued, options.name):
        yield (
            f"older ones of {options.name} may be missing here: before there was `pki list`, those that "
            "`renew` replaced were forgotten. They cannot be revoked, and end 825 days after they were made"
        )
    has_another = any(each.is_let_in(now) for each in register.of(issued, options.name))
    yield _how_to_revoke(options.name, has_another=has_another)


def _renew(folder: PkiFolder, options: argparse.Namespace, now: datetime) -> Iterator[str]:
    has_server = options.name == certificates.SERVER and (folder.path / "server.crt").exists()
    before = folder.hosts() if has_server else []
    made = folder.renew(options.name, now, options.host, added=options.add_host)
    match options.name:
        case certificates.SERVER:
            named = folder.hosts()
            yield f"the broker is now {', '.join(named)}"
            if gone := [host for host in before if host not in named]:
                yield f"and not {', '.join(gone)} any more: devices that say so do not trust it"
            yield f"renewed {made}; now, in compose/cloud: docker compose restart broker"
        case certificates.STORE | certificates.GALLERY as service:
            yield f"renewed {made}; now, in compose/cloud: docker compose restart {service[1:]}"
        case _:
            yield _how_to_install(made, options.name)
            yield "then, there: docker compose restart forward"


def _list(folder: PkiFolder, options: argparse.Namespace, now: datetime) -> Iterator[str]:
    for each in folder.issued():
        yield _as_json(each, now) if options.json else _as_line(each, now)


def _as_line(each: Issued, now: datetime) -> str:
    return f"{each.name:20} {each.serial:40} {_day(each)} {each.state(now)}"


def _as_json(each: Issued, now: datetime) -> str:
    return json.dumps(
        {
            "name": each.name,
            "serial": each.serial,
            "until": each.until.isoformat(),
            "state": each.state(now),
        }
    )


def _day(each: Issued) -> str:
    return f"{each.until:%Y-%m-%d}"


def _how_to_revoke(name: str, *, has_another: bool) -> str:
    steps = "in compose/cloud: docker compose restart broker"
    if name in (certificates.STORE, certificates.GALLERY) and not has_another:
        steps = f"faceferry pki renew {name}, and {steps} {name[1:]}"
    return f"the broker accepts it, and keeps its connection, until it is restarted; now {steps}"


def _how_to_install(bundle: Path, name: str) -> str:
    return (
        f"copy {bundle} to {name}, and there, in compose/edge:\n"
        f"    mkdir -p -m 700 secrets && tar -xpf {bundle.name} -C secrets\n"
        "then delete the bundle in both places: it holds the device's key"
    )


def _user_lines() -> str:
    return f"FACEFERRY_UID={os.getuid()} and FACEFERRY_GID={os.getgid()}"


def _serial(text: str) -> int:
    digits = text.replace(":", "")
    if not re.fullmatch("[0-9a-fA-F]{1,64}", digits):
        raise argparse.ArgumentTypeError(f"a hexadecimal number is wanted, not {text!r}")
    return int(digits, 16)


def _owner(text: str) -> Owner:
    uid, separator, gid = text.partition(":")
    if not (text.isascii() and uid.isdecimal()) or (separator and not gid.isdecimal()):
        raise argparse.ArgumentTypeError(f"numbers are wanted, UID:GID, not {text!r}")
    owner = Owner(int(uid[:20]), int((gid or uid)[:20]))
    if max(owner.uid, owner.gid) >= _NO_ID:
        raise argparse.ArgumentTypeError(f"numbers below {_NO_ID} are wanted")
    return owner
