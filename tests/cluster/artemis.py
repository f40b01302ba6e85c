"""A real cluster of MQTT 5 brokers on loopback: Apache ActiveMQ Artemis, fetched once by Maven and kept."""

import contextlib
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from string import Template
from typing import Self

from services.up.brokers import free_port
from tests.conftest import skip

VERSION = "2.40.0"
ARTIFACT = f"org.apache.activemq:apache-artemis:{VERSION}:zip:bin"
FETCH_LIMIT_S = 300.0
START_LIMIT_S = 120.0
_IDENTITY = "server.lock"
_BRIDGED = b"AMQ221027"
"""Stands in a node's log once for each other node that it passes messages on to."""

_BROKER = Template("""\
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <name>$name</name>
  <persistence-enabled>true</persistence-enabled>
  <journal-type>NIO</journal-type>
  <journal-datasync>false</journal-datasync>
  <journal-min-files>2</journal-min-files>
  <journal-file-size>1M</journal-file-size>
  <paging-directory>data/paging</paging-directory>
  <bindings-directory>data/bindings</bindings-directory>
  <journal-directory>data/journal</journal-directory>
  <large-messages-directory>data/large</large-messages-directory>
  <security-enabled>false</security-enabled>
  <jmx-management-enabled>false</jmx-management-enabled>
  <critical-analyzer>false</critical-analyzer>
  <max-disk-usage>100</max-disk-usage>
  <message-expiry-scan-period>1000</message-expiry-scan-period>
  <connectors>$connectors</connectors>
  <acceptors>
    <acceptor name="core">tcp://127.0.0.1:$core?protocols=CORE</acceptor>
    <acceptor name="mqtt">tcp://127.0.0.1:$port?protocols=MQTT;tcpNoDelay=true</acceptor>
  </acceptors>
  <cluster-user>cluster</cluster-user>
  <cluster-password>cluster</cluster-password>
  <cluster-connections><cluster-connection name="cluster">
    <connector-ref>$name</connector-ref>
    <check-period>3000</check-period>
    <connection-ttl>15000</connection-ttl>
    <call-timeout>15000</call-timeout>
    <retry-interval>200</retry-interval>
    <max-retry-interval>2000</max-retry-interval>
    <initial-connect-attempts>-1</initial-connect-attempts>
    <reconnect-attempts>-1</reconnect-attempts>
    <message-load-balancing>ON_DEMAND</message-load-balancing>
    <max-hops>1</max-hops>
    <static-connectors>$others</static-connectors>
  </cluster-connection></cluster-connections>
  <address-settings><address-setting match="#">
    <redistribution-delay>0</redistribution-delay>
    <auto-delete-queues>true</auto-delete-queues>
    <auto-delete-addresses>true</auto-delete-addresses>
  </address-setting></address-settings>
</core></configuration>
""")
_BOOTSTRAP = Template("""\
<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="anybody"/>
  <server configuration="$uri"/>
</broker>
""")
_FILES = {
    "login.config": """anybody {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule required
    org.apache.activemq.jaas.guest.user="anybody" org.apache.activemq.jaas.guest.role="anybody";
};
""",
    "management.xml": '<management-context xmlns="http://activemq.apache.org/schema"/>\n',
    "log4j2.properties": """rootLogger = WARN, out
logger.server.name = org.apache.activemq
logger.server.level = INFO
logger.audit.name = org.apache.activemq.audit
logger.audit.level = OFF
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %-5level %msg%n
""",
}


def installed() -> Path:
    """Return where the broker is, fetched if need be; skip in words where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "faceferry-tests" / f"apache-artemis-{VERSION}"
    if which("java") is None:
        skip("the cluster needs java 17 or newer")
    if not (home / "lib" / "artemis-boot.jar").exists():
        _fetch(home)
    return home


def _fetch(home: Path) -> None:
    if which("mvn") is None:
        skip("the cluster's broker is not on this machine, and there is no mvn to fetch it")
    home.parent.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-q", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={home.parent}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_LIMIT_S)
    except subprocess.TimeoutExpired:
        skip(f"the cluster's broker could not be fetched within {FETCH_LIMIT_S:.0f} s")
    archive = home.parent / f"apache-artemis-{VERSION}-bin.zip"
    if done.returncode != 0 or not archive.exists():
        skip(f"the cluster's broker could not be fetched: {done.stdout[-200:]}")
    with zipfile.ZipFile(archive) as content:
        content.extractall(home.parent)
    archive.unlink()


class Node:
    """One broker of a cluster, which can be killed and frozen, and started again.

    It then knows nothing any more but who it is. With another identity at the same address the others would
    take it for two; what it tells that it has never been comes back to it, and it ends the connections of
    its own clients, for it takes them to have gone elsewhere.

    Attributes:
        name: within the cluster.
        port: where it speaks MQTT.
        core: where it listens for the other nodes, and
        reached_at: where it tells them that they reach it.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f"node-{number}"
        self.port = free_port()
        self.core = self.reached_at = free_port()
        self._folder = folder / self.name
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def bridges(self) -> int:
        """To how many other nodes it has had a bridge since its last start."""
        log = self._folder / "log"
        return log.read_bytes().count(_BRIDGED) if log.exists() else 0

    def configure(self, home: Path, nodes: list["Node"]) -> None:
        """Write its files."""
        self._home = home
        etc = self._folder / "etc"
        etc.mkdir(parents=True)
        (self._folder / "tmp").mkdir()
        connectors = "".join(
            f'<connector name="{each.name}">tcp://127.0.0.1:{each.reached_at}</connector>' for each in nodes
        )
        others = "".join(f"<connector-ref>{each.name}</connector-ref>" for each in nodes if each is not self)
        broker = _BROKER.substitute(
            name=self.name, connectors=connectors, others=others, core=self.core, port=self.port
        )
        (etc / "broker.xml").write_text(broker)
        (etc / "bootstrap.xml").write_text(_BOOTSTRAP.substitute(uri=(etc / "broker.xml").as_uri()))
        for name, text in _FILES.items():
            (etc / name).write_text(text)

    def start(self) -> Self:
        for kept in (self._folder / "data").rglob("*"):
            if kept.is_file() and kept.name != _IDENTITY:
                kept.unlink()
        etc = self._folder / "etc"
        command = [
            "java", "-Xms192m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-XX:MaxDirectMemorySize=128m", "-Dlog4j2.disableJmx=true",
            f"-Dartemis.home={self._home}", f"-Dartemis.instance={self._folder}",
            f"-Dartemis.instance.etc={etc}", f"-Ddata.dir={self._folder / 'data'}",
            f"-Djava.io.tmpdir={self._folder / 'tmp'}",
            f"-Dlog4j2.configurationFile={etc / 'log4j2.properties'}",
            f"-Djava.security.auth.login.config={etc / 'login.config'}",
            "--add-opens", "java.base/jdk.internal.misc=ALL-UNNAMED",
            "-classpath", str(self._home / "lib" / "artemis-boot.jar"),
            "org.apache.activemq.artemis.boot.Artemis", "run",
        ]  # fmt: skip
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to say anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")


@contextmanager
def running_cluster(folder: Path, count: int = 3) -> Iterator[list[Node]]:
    """A cluster whose nodes all know each other, for as long as the context lasts."""
    nodes = [Node(folder, number) for number in range(count)]
    with running(installed(), nodes):
        yield nodes


@contextmanager
def running(home: Path, nodes: list[Node]) -> Iterator[None]:
    """Have nodes that know each other run, for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        for node in nodes:
            node.configure(home, nodes)
            stack.callback(node.kill)
            node.start()
        until_joined(nodes)
        yield


def until_joined(nodes: list[Node]) -> None:
    """Wait until each node has a bridge to each other."""
    ends_s = time.monotonic() + START_LIMIT_S
    while not all(node.bridges >= len(nodes) - 1 for node in nodes):
        stopped = [node for node in nodes if not node.is_running]
        if stopped or time.monotonic() > ends_s:
            raise AssertionError(f"the cluster does not come together: {(stopped or nodes)[0].log[-2000:]}")
        time.sleep(0.2)
