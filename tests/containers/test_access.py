"""Who is let in by the cloud's broker, and what they may do there."""

import io
import socket
import ssl
import tarfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from services.common.mqtt import Broker
from services.pki import certificates
from services.pki.certificates import CertifiedKey, pair
from services.store.listener import group_of
from tests.containers.engine import ROOT, Project, until
from tests.containers.site import Site
from tests.hostile_client import SUBACK, HostileClient, subscribe

pytestmark = pytest.mark.timeout(200)

CONNECT = bytes.fromhex("10 10 0004 4d515454 05 02 003c 00 0003 616263")  # MQTT 5, clean start, client "abc"
WAIT_S = 5.0
SILENCE_S = 1.0
PASSWORDS = {"porch": "over-the-sea", "_store": "under-the-bridge", "_gallery": "in-the-stalls"}


@pytest.fixture(scope="module")
def broker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The cloud's broker with certificates, nothing else."""
    site.pki.add_device("yard", site.now)
    folder = tmp_path_factory.mktemp("cloud")
    with Project([ROOT / "compose/cloud/compose.yaml"], site.cloud_settings(), folder) as project:
        project.up("broker")
        yield project


def context(site: Site, folder: Path, identity: CertifiedKey | None) -> ssl.SSLContext:
    """TLS as a client with this certificate would speak it."""
    if identity is None:
        return ssl.create_default_context(cafile=site.cloud / "ca.crt")
    return context_of(site, folder, b"".join(pair("client", identity).values()))


def pair_file(folder: Path, identity: CertifiedKey) -> Path:
    """Return a file with a client's certificate and its key."""
    path = folder / f"{identity.certificate.serial_number}.pem"
    path.write_bytes(b"".join(pair("client", identity).values()))
    return path


def is_let_in(site: Site, tls: ssl.SSLContext | None) -> bool:
    """Say whether an MQTT connection is granted, over TLS or plain."""
    plain = socket.create_connection(("localhost", site.mqtt_port), WAIT_S)
    try:
        with tls.wrap_socket(plain, server_hostname="localhost") if tls else plain as link:
            link.sendall(CONNECT)
            answer = link.recv(64)
    except (ssl.SSLError, ConnectionError):
        return False
    return answer[:1] == b"\x20" and answer[3] == 0


def device(site: Site, name: str, **given: Any) -> CertifiedKey:
    return certificates.issue_client(site.pki._authority(), name, given.pop("now", site.now), **given)


class Peer:
    """Somebody with a connection to the broker."""

    def __init__(
        self, site: Site, tls: ssl.SSLContext, user: str | None = None, password: str | None = None
    ) -> None:
        self.heard: list[str] = []
        self._answers: dict[int, ReasonCode] = {}
        self._answered = threading.Condition()
        self._connected = threading.Event()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.tls_set_context(tls)
        if user is not None:
            client.username_pw_set(user, password)
        client.on_connect = lambda *_: self._connected.set()
        client.on_message = lambda _client, _data, message: self.heard.append(message.topic)
        client.on_publish = self._on_publish
        client.on_subscribe = lambda _client, _data, mid, codes, _properties: self._answer(mid, codes[0])
        client.connect("localhost", site.mqtt_port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._connected.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def listens(self, topic: str) -> Self:
        """Ask for a topic, whatever the broker says to it: what counts is what is heard."""
        mid = self._client.subscribe(topic, 1)[1]
        assert mid is not None
        self._wait(mid)
        return self

    def may_write(self, topic: str) -> bool:
        """Publish, and say whether the broker took it."""
        return not self._wait(self._client.publish(topic, b"x", 1).mid).is_failure

    def writes(self, topic: str, payload: bytes) -> None:
        """Have the broker keep something, and wait for its answer."""
        self._wait(self._client.publish(topic, payload, 1, retain=True).mid)

    def _wait(self, mid: int) -> ReasonCode:
        with self._answered:
            assert self._answered.wait_for(lambda: mid in self._answers, WAIT_S)
            return self._answers.pop(mid)

    def _answer(self, mid: int, code: ReasonCode) -> None:
        with self._answered:
            self._answers[mid] = code
            self._answered.notify_all()

    def _on_publish(
        self, _client: object, _data: object, mid: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._answer(mid, code)


@pytest.fixture
def peer(site: Site, tmp_path: Path) -> Any:
    """Connects under a name, with a certificate for it."""
    return lambda name: Peer(site, context(site, tmp_path, device(site, name)))


def test_a_device_with_its_certificate_is_let_in(broker: Project, site: Site, tmp_path: Path) -> None:
    assert broker.containers()
    assert is_let_in(site, context(site, tmp_path, device(site, "porch")))


@pytest.mark.usefixtures("broker")
def test_nobody_is_let_in_without_a_certificate(site: Site, tmp_path: Path) -> None:
    assert not is_let_in(site, context(site, tmp_path, None))


@pytest.mark.usefixtures("broker")
def test_a_certificate_of_another_authority_is_refused(site: Site, tmp_path: Path) -> None:
    other = certificates.make_authority(site.now)
    assert not is_let_in(site, context(site, tmp_path, certificates.issue_client(other, "porch", site.now)))


@pytest.mark.usefixtures("broker")
def test_an_expired_certificate_is_refused(site: Site, tmp_path: Path) -> None:
    expired = device(site, "porch", now=site.now - timedelta(days=10), lifetime=timedelta(days=9))
    assert not is_let_in(site, context(site, tmp_path, expired))


@pytest.mark.usefixtures("broker")
def test_the_brokers_own_certificate_lets_nobody_in(site: Site, tmp_path: Path) -> None:
    server = certificates.issue_server(site.pki._authority(), ["localhost"], site.now)
    assert not is_let_in(site, context(site, tmp_path, server))


@pytest.mark.usefixtures("broker")
def test_a_plain_connection_is_refused(site: Site) -> None:
    assert not is_let_in(site, None)


@pytest.mark.usefixtures("broker")
def test_old_tls_is_refused(site: Site, tmp_path: Path) -> None:
    old = context(site, tmp_path, device(site, "porch"))
    # Without the second line our own library would refuse, and nothing would have been asked of the broker.
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert not is_let_in(site, old)


def test_a_revoked_certificate_is_refused_after_a_restart(
    broker: Project, site: Site, tmp_path: Path
) -> None:
    bundles = [site.pki.add_device("stolen", site.now).read_bytes()]
    bundles.append(site.pki.renew("stolen", site.now).read_bytes())
    older, newer = (
        context_of(site, tmp_path, part_of(each, "device.key") + part_of(each, "device.crt"))
        for each in bundles
    )
    assert is_let_in(site, older)
    assert is_let_in(site, newer)
    site.pki.revoke("stolen", site.now)
    broker("restart", "broker")
    broker.up("broker")
    assert not is_let_in(site, older)
    assert not is_let_in(site, newer)
    assert is_let_in(site, context(site, tmp_path, device(site, "porch")))


def test_a_revoked_store_is_refused_until_it_has_a_new_certificate(
    broker: Project, site: Site, tmp_path: Path
) -> None:
    def store() -> ssl.SSLContext:
        files = [site.cloud / name for name in ("store.key", "store.crt")]
        return context_of(site, tmp_path, b"".join(file.read_bytes() for file in files))

    assert is_let_in(site, store())
    site.pki.revoke("_store", site.now)
    broker("restart", "broker")
    broker.up("broker")
    assert not is_let_in(site, store())
    site.pki.renew("_store", site.now)
    assert is_let_in(site, store())


def context_of(site: Site, folder: Path, key_and_certificate: bytes) -> ssl.SSLContext:
    path = folder / "pair.pem"
    path.write_bytes(key_and_certificate)
    made = ssl.create_default_context(cafile=site.cloud / "ca.crt")
    made.load_cert_chain(path)
    return made


def part_of(bundle: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as files:
        content = files.extractfile(name)
        assert content is not None
        return content.read()


@pytest.mark.usefixtures("broker")
def test_a_device_writes_under_its_own_name_only(peer: Any) -> None:
    with peer("_store") as store, peer("yard") as yard, peer("porch") as porch:
        store.listens("faceferry/+/+/face")
        assert porch.may_write("faceferry/porch/front/face")
        assert porch.may_write("faceferry/porch/front/status")
        assert porch.may_write("faceferry/porch/forward/status")
        assert not porch.may_write("faceferry/yard/front/face")
        assert not porch.may_write("faceferry/yard/front/status")
        assert not porch.may_write("faceferry/porch/stored")
        assert not porch.may_write("faceferry/yard/stored")
        assert not porch.may_write("test_topic")
        assert yard.may_write("faceferry/yard/front/face")
        time.sleep(SILENCE_S)
        assert sorted(store.heard) == ["faceferry/porch/front/face", "faceferry/yard/front/face"]


@pytest.mark.usefixtures("broker")
def test_a_device_reads_its_own_receipts_only(peer: Any) -> None:
    with peer("_store") as store, peer("yard") as yard, peer("porch") as porch:
        porch.listens("#").listens("faceferry/+/stored").listens("faceferry/yard/stored")
        porch.listens("faceferry/+/+/face").listens("$share/store/faceferry/+/+/face").listens("$SYS/#")
        assert store.may_write("faceferry/porch/stored")
        assert store.may_write("faceferry/yard/stored")
        assert yard.may_write("faceferry/yard/front/face")
        time.sleep(SILENCE_S)
        assert set(porch.heard) == {"faceferry/porch/stored"}


@pytest.mark.usefixtures("broker")
def test_who_joins_a_group_by_guessing_takes_no_face_from_the_store(site: Site, peer: Any) -> None:
    group = group_of(b"".join((site.cloud / "store.key").read_bytes().split()))
    with ExitStack() as stack:
        store = stack.enter_context(peer("_store")).listens(f"$share/{group}/faceferry/+/+/face")
        porch, yard = (stack.enter_context(peer(name)) for name in ("porch", "yard"))
        for _ in range(20):
            stack.enter_context(peer("yard")).listens("$share/store/faceferry/+/+/face")
        for _ in range(50):
            assert porch.may_write("faceferry/porch/front/face")
        time.sleep(SILENCE_S)
        assert store.heard == ["faceferry/porch/front/face"] * 50
        assert yard.heard == []


@pytest.mark.usefixtures("broker")
def test_a_session_that_is_away_is_kept_nothing_that_it_may_not_read(site: Site, tmp_path: Path) -> None:
    identity = pair_file(tmp_path, device(site, "yard"))
    url = f"mqtts://localhost:{site.mqtt_port}"
    known = Broker(url, ca_file=site.cloud / "ca.crt", cert_file=identity, key_file=identity)
    with HostileClient(known, "away", expiry_s=600) as yard:
        yard.send(subscribe(b"faceferry/+/+/face", b"$share/any/faceferry/+/+/face"))
        yard.read(SUBACK)
    with Peer(site, context(site, tmp_path, device(site, "porch"))) as porch:
        assert porch.may_write("faceferry/porch/front/face")
    with HostileClient(known, "away", expiry_s=600) as yard:
        assert yard.is_silent(SILENCE_S)


@pytest.mark.usefixtures("broker")
def test_the_store_reads_faces_and_writes_receipts_and_nothing_else(peer: Any) -> None:
    with peer("_store") as store, peer("porch") as porch:
        store.listens("#")
        assert not store.may_write("faceferry/porch/front/face")
        assert not store.may_write("faceferry/_store/front/face")
        assert not store.may_write("faceferry/_store/front/status")
        assert not store.may_write("test_topic")
        assert porch.may_write("faceferry/porch/front/status")
        assert porch.may_write("faceferry/porch/front/face")
        time.sleep(SILENCE_S)
        assert store.heard == ["faceferry/porch/front/face"]


@pytest.mark.usefixtures("broker")
def test_the_gallery_reads_receipts_and_states_and_writes_nothing(peer: Any) -> None:
    with peer("_gallery") as gallery, peer("_store") as store, peer("porch") as porch:
        gallery.listens("#").listens("faceferry/+/stored").listens("faceferry/+/+/status")
        gallery.listens("faceferry/+/+/face").listens("$share/store/faceferry/+/+/face").listens("$SYS/#")
        for topic in (
            "faceferry/porch/front/face",
            "faceferry/porch/front/status",
            "faceferry/porch/stored",
            "faceferry/_gallery/front/face",
            "faceferry/_gallery/front/status",
            "faceferry/_gallery/stored",
            "test_topic",
        ):
            assert not gallery.may_write(topic), topic
        assert porch.may_write("faceferry/porch/front/face")
        assert porch.may_write("faceferry/porch/front/status")
        assert store.may_write("faceferry/porch/stored")
        assert store.may_write("faceferry/_gallery/stored")
        time.sleep(SILENCE_S)
        assert set(gallery.heard) == {"faceferry/porch/front/status", "faceferry/porch/stored"}


def test_test_topic_opens_to_the_one_that_is_named(broker: Project, peer: Any) -> None:
    broker.configure(FACEFERRY_TEST_TOPIC="yard")
    broker.up("broker")
    with peer("_store") as store, peer("yard") as yard, peer("porch") as porch:
        store.listens("test_topic")
        assert not porch.may_write("test_topic")
        assert yard.may_write("test_topic")
        time.sleep(SILENCE_S)
        assert store.heard == ["test_topic"]


def test_a_broker_that_a_device_fills_begins_anew_within_its_memory(broker: Project, peer: Any) -> None:
    with peer("yard") as yard:
        for number in range(120):
            with suppress(AssertionError, OSError):
                yard.writes(f"faceferry/yard/camera-{number}/status", bytes(4_000_000))
    until(lambda: "begins anew" in broker("logs", "broker"), 10.0, lambda: broker("logs", "broker"))
    [container] = broker.containers("broker")
    assert not container["State"]["OOMKilled"]
    assert container["RestartCount"] == 0
    with peer("porch") as porch:
        assert porch.may_write("faceferry/porch/front/face")


@pytest.fixture(scope="module")
def password_broker(
    broker: Project, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The same with user names and passwords, on the same port."""
    broker("down", "--timeout", "2")
    site.write_passwords(PASSWORDS)
    files = [ROOT / "compose/cloud/compose.yaml", ROOT / "compose/cloud/passwords.yaml"]
    with Project(files, site.cloud_settings(), tmp_path_factory.mktemp("passwords")) as project:
        project.up("broker")
        yield project


@pytest.mark.usefixtures("password_broker")
def test_with_passwords_nobody_is_anonymous_nor_plain(site: Site, tmp_path: Path) -> None:
    assert not is_let_in(site, context(site, tmp_path, None))
    assert not is_let_in(site, context(site, tmp_path, device(site, "porch")))
    assert not is_let_in(site, None)


@pytest.mark.usefixtures("password_broker")
def test_with_passwords_the_same_rules_hold(site: Site, tmp_path: Path) -> None:
    tls = context(site, tmp_path, None)
    with (
        Peer(site, tls, "_store", PASSWORDS["_store"]) as store,
        Peer(site, tls, "_gallery", PASSWORDS["_gallery"]) as gallery,
        Peer(site, tls, "porch", PASSWORDS["porch"]) as porch,
    ):
        store.listens("faceferry/+/+/face")
        gallery.listens("#")
        assert porch.may_write("faceferry/porch/front/face")
        assert not porch.may_write("faceferry/yard/front/face")
        assert store.may_write("faceferry/porch/stored")
        assert not gallery.may_write("faceferry/porch/stored")
        time.sleep(SILENCE_S)
        assert store.heard == ["faceferry/porch/front/face"]
        assert gallery.heard == ["faceferry/porch/stored"]
    refused = Peer(site, tls, "porch", "wrong")
    refused._client.loop_start()
    time.sleep(SILENCE_S)
    assert not refused._client.is_connected()
    refused.__exit__()
