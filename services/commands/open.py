import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from services.commands.stores import to_read
from services.common.errors import SetupError
from services.common.runtime.files import PRIVATE, create
from services.common.sealing.keys import read_identities
from services.common.storage import sidecar
from services.common.storage.backends import open_store
from services.common.storage.keys import FaceKey, id_time, parse_key
from services.common.storage.locations import DEFAULT_STORE
from services.common.storage.objects import NoSuchObject, StoredObject, StoreUnavailable
from services.common.wire import envelope
from services.common.wire.faces import SUFFIXES
from services.common.wire.topics import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry open`."""
    parser.add_argument(
        "faces",
        nargs="*",
        metavar="FILE_OR_KEY",
        help="sealed files, or keys that `faceferry faces` shows",
    )
    parser.add_argument("--identity", type=Path, metavar="FILE", help="private keys, one a line")
    parser.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="where pictures go; default: here"
    )
    parser.add_argument(
        "--store", metavar="URL_OR_PATH", help=f"default: FACEFERRY_STORE_URL, else {DEFAULT_STORE}"
    )
    parser.add_argument(
        "--new-key", type=Path, metavar="FILE", help="make a private key, and print the public one"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Open sealed faces; return 1 where one cannot be."""
    if options.new_key is not None:
        return _make_key(options.new_key)
    if options.identity is None or not options.faces:
        raise SetupError("--identity and one face or more are wanted, or --new-key")
    try:
        identities = read_identities(options.identity.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise SetupError(f"{options.identity}: {error}") from error
    return asyncio.run(_open_all(options.faces, identities, options.to, options.store))


def _make_key(path: Path) -> int:
    from services.common.sealing.age import new_identity  # noqa: PLC0415 - cryptography is not everywhere

    identity, recipient = new_identity()
    with os.fdopen(create(str(path), PRIVATE), "w") as file:
        file.write(f"# public key: {recipient}\n{identity}\n")
    print(recipient)
    return 0


async def _open_all(faces: Sequence[str], identities: list[bytes], folder: Path, store: str | None) -> int:
    status = 0
    for face in faces:
        try:
            print(_opened(await _read(face, store), identities, folder))
        except (_Problem, NoSuchObject, StoreUnavailable) as error:
            print(f"{face}: {error if str(error) != face else 'there is no such face'}")
            status = 1
    return status


class _Problem(Exception):
    """Why a face cannot be opened."""


async def _read(face: str, store: str | None) -> StoredObject:
    if (item := _from_file(Path(face))) is not None:
        return item
    if parse_key(face) is None:
        raise _Problem("there is no such file, and it is no face's key")
    async with open_store(to_read(store), may_make_folder=False) as objects:
        return await objects.get(face)


def _from_file(path: Path) -> StoredObject | None:
    """Read a file, with its metadata where these are beside it, or None where it is not a file."""
    if not path.is_file():
        return None
    key = "/".join(path.absolute().parts[-4:])
    try:
        content_type, metadata = sidecar.read(path.with_suffix(".json").read_bytes())
    except (FileNotFoundError, ValueError):
        content_type, metadata = envelope.CONTENT_TYPE, {}
    return StoredObject(key, path.read_bytes(), content_type, metadata)


def _opened(item: StoredObject, identities: list[bytes], folder: Path) -> str:
    """Write the picture of a face; return the line to print."""
    from services.common.sealing.age import CannotOpen, Label, open_sealed  # noqa: PLC0415

    key = parse_key(item.key)
    label = None
    if key is not None and item.metadata:
        _check_id(key, item)
        label = Label(_source(item, key), id_time(key.id), item.metadata)
    try:
        picture = open_sealed(item.body, identities, label)
    except CannotOpen as error:
        raise _Problem(str(error)) from error
    inside = item.metadata.get(envelope.INSIDE, "image/jpeg")
    name = key.id if key is not None else Path(item.key).stem
    path = folder / f"{name}{SUFFIXES.get(inside, '.jpg')}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(picture)
    return str(path) if label is not None else f"{path} (nothing beside it says whose it is: not checked)"


def _check_id(key: FaceKey, item: StoredObject) -> None:
    from services.common.wire.faces import mint_id  # noqa: PLC0415

    if mint_id(key.source, key.time, item.body) != key.id:
        raise _Problem("it was changed, or lies under another's name: its id is another's")


def _source(item: StoredObject, key: FaceKey) -> Source:
    device, _, camera = item.metadata.get("source", str(key.source)).partition("/")
    return Source(device, camera)
