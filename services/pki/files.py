"""Files of the authority's folder: each is there whole or not at all, and never with another mode."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from services.common.errors import SetupError
from services.common.runtime.files import sync_folder
from services.common.runtime.lock import try_hold

T = TypeVar("T")

_SECRET = 0o600
_PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose the files become that containers read, by number."""

    uid: int
    gid: int


class Files:
    """Files below a folder, by their names there.

    A file is written under another name and renamed: a broker that meets half a list lets in whom it bars.

    Args:
        path: the folder.
        owner: of what containers read, if it is root who makes it.
        for_containers: the names of what they read.
    """

    def __init__(self, path: Path, owner: Owner, for_containers: frozenset[str]) -> None:
        self.path = path
        self._owner = owner
        self._for_containers = for_containers

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other command out: what two read and write again in turn loses what one has added.

        Raises:
            SetupError: another is at work, or there is no such folder.
        """
        if not self.path.is_dir():
            raise SetupError(f"there is no folder {self.path} (`faceferry pki init` makes it)")
        with try_hold(self.path) as is_ours:
            if not is_ours:
                raise SetupError(f"another `faceferry pki` is at work in {self.path}: try again")
            yield

    def make_folder(self, name: str = "") -> None:
        """Make a folder that only its owner may look into, if it is not there."""
        (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        if name:
            sync_folder(self.path)

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""
        return (self.path / name).exists()

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the certificates in a folder, which need not be there."""
        found = (self.path / folder).glob("*.crt")
        return sorted(str(path.relative_to(self.path)) for path in found if not path.name.startswith("."))

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            SetupError: it cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise SetupError(f"{error.filename}: {error.strerror} (`faceferry pki init` makes it)") from error

    def parse(self, name: str, parse: Callable[[bytes], T]) -> T:
        """Return what a file holds.

        Raises:
            SetupError: it cannot be read, or holds something else.
        """
        content = self.read(name)
        try:
            return parse(content)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # also: it is encrypted
            raise SetupError(f"{self.path / name} is not as `faceferry pki` made it: {error}") from error

    def certificate(self, name: str) -> x509.Certificate:
        """Return the certificate in a file.

        Raises:
            SetupError: there is none.
        """
        return self.parse(name, x509.load_pem_x509_certificate)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files one after the other, over what is there; each is on the disk before the next one."""
        for name, content in files.items():
            path = self.path / name
            unfinished = path.with_name(f".{path.name}")
            unfinished.unlink(missing_ok=True)
            self._create(unfinished, content, is_for_containers=name in self._for_containers)
            unfinished.rename(path)
            sync_folder(path.parent)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def _create(self, path: Path, content: bytes, *, is_for_containers: bool) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode_of(path.name))
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode_of(path.name))
            if os.geteuid() == 0 and is_for_containers:
                os.fchown(descriptor, self._owner.uid, self._owner.gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)


def mode_of(name: str) -> int:
    """Return what may be done with a file of this name, and by whom."""
    return _SECRET if name.endswith((".key", ".tar")) else _PUBLIC
