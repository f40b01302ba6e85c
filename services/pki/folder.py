"""The folder with the authority and all certificates that it has signed."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from services.common.erasure import keys as erasure_keys
from services.common.errors import SetupError
from services.pki import certificates, register
from services.pki.certificates import GALLERY, SERVER, STORE, CertifiedKey
from services.pki.files import AuthorityFiles, Owner
from services.pki.register import AUTHORITY, Issued

INSIDE = ("broker", "localhost", "127.0.0.1")
"""Further names of the broker: for the services beside it, and for tests on its own machine."""
STEMS = {SERVER: "server", STORE: "store", GALLERY: "gallery"}
"""Names of the files for the cloud's side, without suffix."""

ERASE_KEY, ERASE_PUB = "erase.key", "erase.pub"
"""The key that signs erasures, and the one that verifies them."""

_ISSUED = "issued"
_OLD_ISSUED = ("devices/renewed", "devices/revoked")
"""Where versions before `issued` kept a device's certificates that are not in use any more."""


class PkiFolder:
    """The authority's folder, laid out as the compose files expect it.

    - `ca.crt`, `ca.key`, `crl.pem`: the authority, and what it has revoked;
    - `server.crt`, `server.key`: the broker's; and in the same way `store` and `gallery`;
    - `devices/NAME.crt`, and `devices/NAME.tar`: a device's certificate, and its bundle. The key is in the
      bundle only;
    - `erase.key`, `erase.pub`: the key pair for erasures, if it was made; the second is in bundles made
      from then on;
    - `issued/NAME-SERIAL.crt`: every certificate that was ever signed, so that it can be revoked. It is
      written before the certificate is handed out.

    A command that was killed is repaired by running it again.

    Args:
        path: the folder.
        owner: of the keys that containers read: in the bundles, and here where root writes them.
    """

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self._owner = owner
        self._files = AuthorityFiles(path, owner, frozenset(f"{stem}.key" for stem in STEMS.values()))

    def init(self, hosts: Sequence[str], now: datetime) -> None:
        """Make the authority, the certificates of the cloud's side, and an empty list of revocations.

        Raises:
            SetupError: one of the files is there already, or a host's name cannot be one.
        """
        authority = certificates.make_authority(now)
        made = {
            SERVER: certificates.issue_server(authority, _with_inside(hosts), now),
            STORE: certificates.issue_client(authority, STORE, now),
            GALLERY: certificates.issue_client(authority, GALLERY, now),
        }
        files = {
            "ca.key": certificates.key_pem(authority),
            "ca.crt": certificates.pem(authority.certificate),
            "crl.pem": _crl_pem(certificates.make_revocations(authority, [], now)),
        }
        for name, identity in made.items():
            files |= certificates.pair(STEMS[name], identity)
        self._files.make_folder()
        with self._files.alone():
            if there := next((name for name in files if self._files.exists(name)), None):
                raise _there_already(self.path / there)
            self._files.write(files)
            self._keep(self._register())

    def add_device(self, name: str, now: datetime) -> Path:
        """Make a device's certificate; return the bundle to copy to the device.

        Raises:
            SetupError: it has one, the name is not valid, or there is no authority here.
        """
        certificates.check_device_name(name)
        with self._files.alone():
            authority = self._authority()
            known = register.of(self._register(), name)
            if any(each.is_current and not each.is_revoked for each in known):
                raise _there_already(self.path / f"devices/{name}.crt")
            self._keep(known)
            return self._make_device(authority, name, now)

    def add_erasure_key(self) -> Path:
        """Make the key pair for erasures; return the path of the public key, for devices and stores.

        Raises:
            SetupError: there is one, or there is no authority here.
        """
        with self._files.alone():
            self._authority()
            if self._files.exists(ERASE_PUB):
                raise _there_already(self.path / ERASE_PUB)
            if not self._files.exists(ERASE_KEY):
                self._files.write({ERASE_KEY: erasure_keys.make()})
            public = self._files.parse(ERASE_KEY, lambda pem: erasure_keys.public_of(pem.decode()))
            self._files.write({ERASE_PUB: public})
        return self.path / ERASE_PUB

    def revoke(self, name: str, now: datetime, serial: int | None = None) -> list[Issued]:
        """Revoke all certificates of a name, older ones too, and remove a device's files.

        Those of a service stay where containers expect them until `renew` replaces them.

        Args:
            name: a device's, `_store` or `_gallery`.
            now: the time, UTC.
            serial: only the one with this serial number; None: all.

        Returns:
            The certificates that were valid until now; empty if all had expired or were revoked.

        Raises:
            SetupError: there is none of that name or number, or it is the broker's own.
        """
        if name == SERVER:
            raise SetupError(
                "devices are not given the list, so the broker's certificate cannot be taken back: if "
                "server.key was stolen, make a new authority in another folder, and new bundles"
            )
        if name not in STEMS:
            certificates.check_device_name(name)
        with self._files.alone():
            authority = self._authority()
            named = register.of(self._register(), name, serial)
            if not named:
                numbered = "" if serial is None else f" with the serial number {serial:x}"
                raise SetupError(f"there is no certificate of {name!r}{numbered} in {self.path}")
            revoked = [each for each in named if each.is_let_in(now)]
            self._keep(named)
            self._list(authority, revoked, now)
            self._clear(name)
            return revoked

    def renew(
        self, name: str, now: datetime, hosts: Sequence[str] = (), *, added: Sequence[str] = ()
    ) -> Path:
        """Make a certificate that replaces one, which stays valid until it expires or is revoked.

        A service can also get its first one: after all of its own were revoked, or where the authority is
        older than the gallery.

        Args:
            name: a device's, `_store`, `_gallery` or `_server`.
            now: the time, UTC.
            hosts: for `_server`: its host names and addresses; empty: as before.
            added: for `_server`: further ones.

        Returns:
            The path of the device's bundle, or of the new certificate.

        Raises:
            SetupError: there is none of that name, or hosts were given for another than `_server`.
        """
        if (hosts or added) and name != SERVER:
            raise SetupError(f"only {SERVER} has hosts")
        if name not in STEMS:
            certificates.check_device_name(name)
        with self._files.alone():
            authority = self._authority()
            issued = register.of(self._register(), name)
            self._keep(issued)
            if name in STEMS:
                return self._renew_service(authority, name, now, hosts, added)
            if all(each.is_revoked for each in issued):
                raise SetupError(
                    f"there is no device {name!r} in {self.path} with a certificate that is not revoked: "
                    f"`faceferry pki device {name}` makes one"
                )
            return self._make_device(authority, name, now)

    def hosts(self) -> list[str]:
        """Return the host names and addresses in the broker's certificate, `INSIDE` included.

        Raises:
            SetupError: there is none.
        """
        return certificates.hosts_of(self._files.certificate("server.crt"))

    def issued(self) -> list[Issued]:
        """Return all certificates, former ones and the authority's included, by name and age.

        Raises:
            SetupError: a file was changed, or there is no authority here.
        """
        with self._files.alone():
            authority = Issued(
                AUTHORITY, self._files.certificate("ca.crt"), is_current=True, is_revoked=False
            )
            found = [authority, *self._register()]
        return sorted(found, key=lambda each: (each.name, each.certificate.not_valid_before_utc))

    def _register(self) -> list[Issued]:
        revoked = {entry.serial_number for entry in self._revocations()}
        in_use = {f"{stem}.crt": name for name, stem in STEMS.items() if self._files.exists(f"{stem}.crt")}
        in_use |= {file: Path(file).stem for file in self._files.names("devices")}
        records = [file for folder in (_ISSUED, *_OLD_ISSUED) for file in self._files.names(folder)]
        found: dict[int, Issued] = {}
        for file, name in (in_use | {file: Path(file).stem.rpartition("-")[0] for file in records}).items():
            certificate = self._files.certificate(file)
            number = certificate.serial_number
            found.setdefault(number, Issued(name, certificate, file in in_use, number in revoked))
        return list(found.values())

    def _keep(self, issued: Sequence[Issued]) -> None:
        self._files.make_folder(_ISSUED)
        for each in issued:
            file = f"{_ISSUED}/{each.name}-{each.serial}.crt"
            if not self._files.exists(file):
                self._files.write({file: certificates.pem(each.certificate)})

    def _list(self, authority: CertifiedKey, revoked: Sequence[Issued], now: datetime) -> None:
        if revoked:
            entries = [
                *self._revocations(),
                *(certificates.revocation(each.certificate, now) for each in revoked),
            ]
            made = certificates.make_revocations(authority, entries, now)
            self._files.write({"crl.pem": _crl_pem(made)})

    def _clear(self, name: str) -> None:
        """Remove a device's files where its current certificate is revoked."""
        if name in STEMS:
            return
        if any(each.is_current and each.is_revoked for each in register.of(self._register(), name)):
            self._files.remove(f"devices/{name}.tar")
            self._files.remove(f"devices/{name}.crt")

    def _make_device(self, authority: CertifiedKey, name: str, now: datetime) -> Path:
        identity = certificates.issue_client(authority, name, now)
        public = {"ca.crt": self._files.read("ca.crt")}
        if self._files.exists(ERASE_PUB):
            public[ERASE_PUB] = self._files.read(ERASE_PUB)
        packed = certificates.make_bundle(identity, public, self._owner, now)
        self._files.make_folder("devices")
        self._keep([_new(name, identity)])
        self._files.write(
            {f"devices/{name}.tar": packed, f"devices/{name}.crt": certificates.pem(identity.certificate)}
        )
        return self.path / f"devices/{name}.tar"

    def _renew_service(
        self, authority: CertifiedKey, name: str, now: datetime, hosts: Sequence[str], added: Sequence[str]
    ) -> Path:
        if name == SERVER:
            known = _with_inside([*(hosts or self.hosts()), *added])
            identity = certificates.issue_server(authority, known, now)
        else:
            identity = certificates.issue_client(authority, name, now)
        self._keep([_new(name, identity)])
        self._files.write(certificates.pair(STEMS[name], identity))
        return self.path / f"{STEMS[name]}.crt"

    def _authority(self) -> CertifiedKey:
        key = self._files.parse("ca.key", lambda pem: load_pem_private_key(pem, None))
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError(f"{self.path / 'ca.key'} is not a key that `faceferry pki init` made")
        return CertifiedKey(self._files.certificate("ca.crt"), key)

    def _revocations(self) -> x509.CertificateRevocationList:
        return self._files.parse("crl.pem", x509.load_pem_x509_crl)


def _with_inside(hosts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*hosts, *INSIDE]))


def _new(name: str, identity: CertifiedKey) -> Issued:
    return Issued(name, identity.certificate, is_current=True, is_revoked=False)


def _crl_pem(revocations: x509.CertificateRevocationList) -> bytes:
    return revocations.public_bytes(Encoding.PEM)


def _there_already(path: Path) -> SetupError:
    return SetupError(f"{path} is there already: nothing was changed")
