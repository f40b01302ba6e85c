"""A real Kubernetes API server and its etcd, which take objects and run none of them."""

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from services.up.brokers import free_port
from tests.chart.objects import Object
from tests.support import wait_for_port

_TOKEN = "let-me-in"  # noqa: S105 - to a server of the test's own
_START_S = 60.0
_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}


class ApiServer:
    """Says of objects whether a cluster would take them."""

    def __init__(self, port: int) -> None:
        self._url = f"https://127.0.0.1:{port}"

    def create(self, one: Object, *, dry: bool = True) -> str:
        """Return what is wrong with an object, or a warning of it; empty if it is taken.

        Args:
            one: the object.
            dry: whether it is only looked at.
        """
        group = one["apiVersion"]
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        space = one["metadata"].get("namespace")
        place = f"/namespaces/{space}" if space else ""
        plural = _PLURALS.get(one["kind"], f"{one['kind'].lower()}s")
        options = "fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        return self._ask(f"{root}{place}/{plural}?{options}", one)

    def _ask(self, path: str, body: Any = None) -> str:
        request = urllib.request.Request(  # noqa: S310 - https, to this machine
            self._url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"},
        )
        # The server shows a certificate that it has made for itself.
        context = ssl._create_unverified_context()  # noqa: S323
        try:
            with urllib.request.urlopen(request, timeout=_START_S, context=context) as answer:  # noqa: S310
                return answer.headers.get("Warning") or ""
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError as error:
            return f"it does not answer: {error}"

    def wait(self) -> None:
        """Wait until it is ready."""
        for _ in range(int(_START_S)):
            if not self._ask("/readyz"):
                return
            time.sleep(1.0)
        raise AssertionError(self._ask("/readyz?verbose"))


@contextmanager
def running(etcd: str, apiserver: str, folder: Path) -> Iterator[ApiServer]:
    """Run both programs, on ports of loopback, for as long as the context lasts."""
    store, peer, port = free_port(), free_port(), free_port()
    key = folder / "service-accounts.pem"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f"{_TOKEN},admin,admin,system:masters\n")
    keeps = [
        *(etcd, "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
        *(
            "--listen-client-urls",
            f"http://127.0.0.1:{store}",
            "--advertise-client-urls",
            f"http://127.0.0.1:{store}",
        ),
        *(
            "--listen-peer-urls",
            f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peer}",
        ),
        *("--initial-cluster", f"default=http://127.0.0.1:{peer}"),
    ]
    answers = [
        *(apiserver, "--etcd-servers", f"http://127.0.0.1:{store}", "--cert-dir", folder / "certificates"),
        *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", str(port)),
        *("--token-auth-file", folder / "tokens.csv", "--service-account-issuer", "https://faceferry.test"),
        *("--service-account-key-file", key, "--service-account-signing-key-file", key),
        *("--service-cluster-ip-range", "10.0.0.0/24", "--disable-admission-plugins", "ServiceAccount"),
        *("--endpoint-reconciler-type", "none"),
    ]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for words, listens in ((keeps, store), (answers, port)):
            process = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            wait_for_port(listens, _START_S)
        server = ApiServer(port)
        server.wait()
        yield server
