"""The folder with the authority and all that it has signed."""

import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from services.common.errors import SetupError
from services.pki import certificates
from services.pki.certificates import GALLERY, STORE, Identity

INSIDE = ("broker", "localhost", "127.0.0.1")
"""What the broker is called besides: by the services beside it, and by who tries it on its own machine."""

_SERVICES = {STORE: "store", GALLERY: "gallery"}

T = TypeVar("T")

_SECRET = 0o600
_PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose the files become that containers read, by number."""

    uid: int
    gid: int


class PkiFolder:
    """The authority's folder, laid out as the compose files expect it.

    - `ca.crt`, `ca.key`, `crl.pem`: the authority, and what it has revoked;
    - `server.crt`, `server.key`: the broker's; and in the same way `store` and `gallery`;
    - `devices/NAME.crt`, and `devices/NAME.tar`: a device's, and with its key for the device itself. The
      key lies nowhere else.

    Args:
        path: where it is.
        owner: of the keys that containers read: in the bundles, and here if it is root who makes them.
    """

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self._owner = owner

    def init(self, hosts: Sequence[str], now: datetime) -> None:
        """Make the authority, the certificates of the cloud's side, and an empty list of revocations.

        Raises:
            SetupError: one of the files is there already, or a host's name cannot be one.
        """
        authority = certificates.make_authority(now)
        server = certificates.issue_server(authority, list(dict.fromkeys([*hosts, *INSIDE])), now)
        revocations = certificates.make_revocations(authority, [], now)
        files = {
            "ca.key": _key_pem(authority),
            "ca.crt": _pem(authority.certificate),
            "crl.pem": revocations.public_bytes(Encoding.PEM),
            **_pair("server", server),
        }
        for name, stem in _SERVICES.items():
            files |= _pair(stem, certificates.issue_client(authority, name, now))
        self._make_folder(self.path)
        self._refuse_existing(files)
        for name, content in files.items():
            self._create(name, content)

    def add_device(self, name: str, now: datetime) -> Path:
        """Make a device's certificate; return the bundle to copy to the device.

        Raises:
            SetupError: it has one, the name cannot be one, or there is no authority here.
        """
        certificates.check_device_name(name)
        identity = certificates.issue_client(self._authority(), name, now)
        self._make_folder(self.path / "devices")
        certificate, bundle = f"devices/{name}.crt", f"devices/{name}.tar"
        self._refuse_existing([certificate, bundle])
        self._create(bundle, self._bundle(identity, now))
        self._create(certificate, _pem(identity.certificate))
        return self.path / bundle

    def revoke(self, name: str, now: datetime) -> None:
        """Put a device's certificate on the list, and its files out of the way of a new one.

        Raises:
            SetupError: it has none.
        """
        certificate = self._device_certificate(name)
        authority = self._authority()
        listed = [*self._revocations(), certificates.revocation(certificate, now)]
        revocations = certificates.make_revocations(authority, listed, now)
        self._replace("crl.pem", revocations.public_bytes(Encoding.PEM))
        self._set_aside(name, certificate, "revoked")

    def renew(self, name: str, now: datetime) -> Path:
        """Replace a certificate before it expires; the old one stays valid until then.

        An authority that is older than the gallery gets the gallery's first one so.

        Args:
            name: a device's, `_store`, `_gallery` or `_server`.
            now: when.

        Returns:
            What is to be copied to the device, or where the new certificate is.

        Raises:
            SetupError: there is none of that name.
        """
        if name == "_server":
            old = self._certificate("server.crt")
            identity = certificates.issue_server(self._authority(), certificates.hosts_of(old), now)
            return self._replace_pair("server", identity)
        if name in _SERVICES:
            return self._replace_pair(
                _SERVICES[name], certificates.issue_client(self._authority(), name, now)
            )
        self._set_aside(name, self._device_certificate(name), "renewed")
        return self.add_device(name, now)

    def _authority(self) -> Identity:
        key = self._parsed("ca.key", lambda pem: load_pem_private_key(pem, None))
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError(f"{self.path / 'ca.key'} is not a key that `faceferry pki init` made")
        return Identity(self._certificate("ca.crt"), key)

    def _revocations(self) -> list[x509.RevokedCertificate]:
        return list(self._parsed("crl.pem", x509.load_pem_x509_crl))

    def _device_certificate(self, name: str) -> x509.Certificate:
        certificates.check_device_name(name)
        if not (self.path / f"devices/{name}.crt").exists():
            raise SetupError(f"there is no device {name!r} in {self.path}")
        return self._certificate(f"devices/{name}.crt")

    def _set_aside(self, name: str, certificate: x509.Certificate, folder: str) -> None:
        devices = self.path / "devices"
        self._make_folder(devices / folder)
        aside = devices / folder / f"{name}-{certificate.serial_number:x}.crt"
        (devices / f"{name}.crt").rename(aside)
        (devices / f"{name}.tar").unlink(missing_ok=True)

    def _bundle(self, identity: Identity, now: datetime) -> bytes:
        files = {"ca.crt": self._read("ca.crt"), **_pair("device", identity)}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as bundle:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                member.mode = _mode(name)
                member.mtime = int(now.timestamp())
                member.uid, member.gid = self._owner.uid, self._owner.gid
                bundle.addfile(member, io.BytesIO(content))
        return packed.getvalue()

    def _replace_pair(self, stem: str, identity: Identity) -> Path:
        for name, content in _pair(stem, identity).items():
            self._replace(name, content)
        return self.path / f"{stem}.crt"

    def _certificate(self, name: str) -> x509.Certificate:
        return self._parsed(name, x509.load_pem_x509_certificate)

    def _parsed(self, name: str, parse: Callable[[bytes], T]) -> T:
        content = self._read(name)
        try:
            return parse(content)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # also: it is encrypted
            raise SetupError(f"{self.path / name} is not as `faceferry pki` made it: {error}") from error

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise SetupError(f"{error.filename}: {error.strerror} (`faceferry pki init` makes it)") from error

    def _make_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _refuse_existing(self, names: Sequence[str] | Mapping[str, bytes]) -> None:
        if there := next((name for name in names if (self.path / name).exists()), None):
            raise SetupError(f"{self.path / there} is there already: nothing was changed")

    def _create(self, name: str, content: bytes) -> None:
        """Write a new file with its mode from the first moment on."""
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(name))
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _mode(name))
            if os.geteuid() == 0 and _is_for_containers(name):
                os.fchown(descriptor, self._owner.uid, self._owner.gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)

    def _replace(self, name: str, content: bytes) -> None:
        unfinished = f".{name}"
        (self.path / unfinished).unlink(missing_ok=True)
        self._create(unfinished, content)
        (self.path / unfinished).rename(self.path / name)


def _is_for_containers(name: str) -> bool:
    return name.lstrip(".") in ("server.key", *(f"{stem}.key" for stem in _SERVICES.values()))


def _mode(name: str) -> int:
    return _SECRET if name.endswith((".key", ".tar")) else _PUBLIC


def _pair(stem: str, identity: Identity) -> dict[str, bytes]:
    return {f"{stem}.key": _key_pem(identity), f"{stem}.crt": _pem(identity.certificate)}


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(identity: Identity) -> bytes:
    return identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
