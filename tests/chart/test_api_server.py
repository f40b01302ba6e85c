"""What a real Kubernetes API server says of what the chart makes, where one was built.

    go build -o etcd go.etcd.io/etcd/server/v3
    go build -o kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver

each in a module of its own, the second with a `replace` for each of Kubernetes' own modules; it takes half an
hour. The variables `FACEFERRY_TEST_ETCD` and `FACEFERRY_TEST_KUBE_APISERVER` then name them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.api_server import ApiServer, running
from tests.chart.helm import EXAMPLES, render
from tests.chart.objects import WORKLOADS, of_kind, template
from tests.chart.test_chart import FOREIGN

pytestmark = pytest.mark.timeout(300)
RESTRICTED = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    etcd, apiserver = (os.environ.get(f"FACEFERRY_TEST_{name}", "") for name in ("ETCD", "KUBE_APISERVER"))
    if not Path(etcd).is_file() or not Path(apiserver).is_file():
        pytest.skip("no API server: FACEFERRY_TEST_ETCD and FACEFERRY_TEST_KUBE_APISERVER name none")
    with running(etcd, apiserver, tmp_path_factory.mktemp("kubernetes")) as server:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here", "labels": RESTRICTED}}
        assert server.create(space, dry=False) == ""
        yield server


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_cluster_takes_every_object(server: ApiServer, example: Path) -> None:
    objects = [one for one in render(example) if one["kind"] not in FOREIGN]
    assert {one["metadata"]["name"]: said for one in objects if (said := server.create(one))} == {}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_pod_is_as_restricted_as_pod_security_can_want_it(server: ApiServer, example: Path) -> None:
    for workload in of_kind(render(example), *WORKLOADS):
        made: dict[str, Any] = template(workload)
        metadata = {**made["metadata"], "name": workload["metadata"]["name"], "namespace": "here"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}
        assert server.create(pod) == ""
        pod["spec"] = {**pod["spec"], "hostNetwork": True}
        assert "violates PodSecurity" in server.create(pod)
