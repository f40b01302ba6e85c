"""What the Helm chart makes: what Kubernetes takes, and what compose/cloud promises."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.helm import CHART, EXAMPLES, KUBERNETES, helm, refusal, render
from tests.chart.objects import (
    WORKLOADS,
    Object,
    container,
    environment,
    files,
    named,
    of_kind,
    pod,
    selects,
    template,
)
from tests.conftest import skip

ROOT = CHART.parents[1]
SMALL, SEVERAL, ELSEWHERE = (
    CHART / "examples" / name for name in ("small.yaml", "several-brokers.yaml", "s3-elsewhere.yaml")
)
FOREIGN = {"ScaledObject", "PodMonitor", "PrometheusRule"}
"""Kinds that Kubernetes knows only from others."""
BUCKET = {"storeUrl": "s3://faces", "retainDays": "30"}

examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


@examples
def test_helm_finds_nothing_wrong(example: Path) -> None:
    done = helm("lint", "--strict", CHART, "-f", example, "--kube-version", KUBERNETES)
    assert (done.returncode, "0 chart(s) failed" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("version", ["1.27.0", "1.32.0", "1.37.0"])
@examples
def test_every_object_is_as_strict_schemas_want_it(example: Path, version: str) -> None:
    for one in render(example):
        if one["kind"] not in FOREIGN:
            kubernetes_validate.validate(one, version, strict=True)


@examples
def test_every_container_is_confined_as_in_compose(example: Path) -> None:
    for workload in of_kind(render(example), *WORKLOADS):
        inside, only = pod(workload), container(workload)
        assert inside["securityContext"]["runAsNonRoot"]
        assert inside["securityContext"]["runAsUser"] == 10001
        assert inside["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inside["automountServiceAccountToken"] is False
        assert only["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert only["resources"]["limits"]["memory"]
        probes = {"startupProbe", "livenessProbe", "readinessProbe"} & only.keys()
        assert len(probes) == (0 if workload["kind"] == "CronJob" else 3)
        assert all(volume["emptyDir"]["sizeLimit"] for volume in inside["volumes"] if "emptyDir" in volume)


@examples
def test_store_and_gallery_are_asked_whether_they_live_and_whether_they_are_ready(example: Path) -> None:
    asked = [
        container(one)
        for one in of_kind(render(example), "Deployment")
        if "broker" not in one["metadata"]["name"]
    ]
    assert len(asked) == 2
    for only in asked:
        assert only["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
        assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
        assert {"name": "metrics", "containerPort": 8080, "protocol": "TCP"} in only["ports"]


def test_labels_and_annotations_stand_on_every_object_and_pod() -> None:
    objects = render(SEVERAL)
    pods = [template(one) for one in of_kind(objects, *WORKLOADS)]
    for one in [*objects, *pods]:
        assert one["metadata"]["labels"]["team"] == "cameras", one
        assert one["metadata"]["annotations"]["contact"] == "cameras@example.org", one


def test_labels_that_select_are_not_lost_to_those_that_are_given() -> None:
    given = {"commonLabels.app\\.kubernetes\\.io/component": "mine", "store.podLabels.tier": "back"}
    store = named(render(sets={**BUCKET, **given}), "Deployment", "faces-faceferry-store")
    assert store["spec"]["template"]["metadata"]["labels"]["tier"] == "back"
    assert selects(store["spec"]["selector"]["matchLabels"], store)


@examples
def test_what_selects_pods_finds_its_own_and_no_others(example: Path) -> None:
    objects = render(example)
    workloads = of_kind(objects, *WORKLOADS)
    found = {
        (one["kind"], one["metadata"]["name"]): [
            each["metadata"]["name"] for each in workloads if selects(_selector(one), each)
        ]
        for one in of_kind(
            objects, "Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "PodMonitor"
        )
    }
    for (kind, name), chosen in found.items():
        brokers = [each["metadata"]["name"] for each in workloads if "-broker-" in each["metadata"]["name"]]
        assert chosen == (brokers if name.endswith("-broker") else [name]), (kind, name)


def _selector(one: Object) -> dict[str, str]:
    told: Any = one["spec"].get("selector") or one["spec"]["podSelector"]
    labels: dict[str, str] = told if one["kind"] == "Service" else told["matchLabels"]
    return labels


@examples
def test_no_object_is_a_secret_and_no_variable_holds_one(example: Path) -> None:
    objects = render(example)
    assert not of_kind(objects, "Secret")
    for workload in of_kind(objects, *WORKLOADS):
        held = {name for name in environment(workload) if re.search("PASSWORD|TOKEN|SECRET|ACCESS_KEY", name)}
        assert {name for name in held if not name.endswith("_FILE")} == set()


@pytest.mark.parametrize(
    "name", ["FACEFERRY_CLOUD_MQTT_PASSWORD", "AWS_SECRET_ACCESS_KEY", "FACEFERRY_STORE_GROUP", "PATH"]
)
def test_a_setting_that_is_a_secret_or_none_of_ours_is_refused(name: str) -> None:
    assert name in refusal(sets={**BUCKET, f"store.env.{name}": "x"})


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ({"retainDays": "30"}, "storeUrl: say where faces go"),
        ({"storeUrl": "s3://faces"}, "retainDays: say for how many days faces are kept, or forever"),
        ({"storeUrl": "s3://faces", "retainDays": "always"}, "retainDays"),
        (
            {"storeUrl": "file:///srv/faces", "retainDays": "30"},
            "the volume of a file:// store is /var/lib/faceferry",
        ),
        ({**BUCKET, "broker.count": "0"}, "no broker: raise broker.count, or name others"),
        ({**BUCKET, "store.autoscaling.by": "keda"}, "say where Prometheus is"),
        ({**BUCKET, "store.replica": "3"}, "replica"),
        ({**BUCKET, "broker.memory": "512m"}, "/broker/memory"),
        ({**BUCKET, "index.tidy.schedule": "hourly"}, "/index/tidy/schedule"),
        (
            {**BUCKET, "gallery.enabled": "true", "gallery.ingress.enabled": "true"},
            "networkPolicy.galleryFrom: name the Ingress controller",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_named(sets: dict[str, str], words: str) -> None:
    assert words in refusal(sets=sets)


def test_each_broker_is_named_to_stores_and_gallery_with_those_elsewhere_behind_them() -> None:
    objects = render(SEVERAL)
    here = [f"mqtts://faces-faceferry-broker-{index}:8883" for index in range(3)]
    for part in ("store", "gallery"):
        told = environment(named(objects, "Deployment", f"faces-faceferry-{part}"))
        assert told["FACEFERRY_CLOUD_MQTT_URL"].split(",") == [*here, "mqtts://mqtt.example.net:8883"]
    services = [one["metadata"]["name"] for one in of_kind(objects, "Service")]
    assert {f"faces-faceferry-broker-{index}" for index in range(3)} <= set(services)


def test_the_chart_s_broker_is_that_of_compose_and_finds_every_file_it_reads() -> None:
    folder = ROOT / "compose" / "cloud" / "broker"
    (told,) = of_kind(render(SMALL), "ConfigMap")
    assert told["data"] == {path.name: path.read_text() for path in folder.iterdir()}
    for clients in ("certificates", "passwords"):
        objects = render(SMALL, sets={"brokers.clients": clients})
        read = (folder / f"{clients}.conf").read_text() + (folder / "start").read_text()
        held = files(named(objects, "Deployment", "faces-faceferry-broker-0"))
        wanted = set(re.findall(r"/run/secrets/[\w.]+", read)) - {"/run/secrets/passwords"}
        assert held.keys() == wanted | ({"/run/secrets/passwords"} if clients == "passwords" else set())


def test_stores_are_added_by_their_own_metrics() -> None:
    objects = render(ELSEWHERE)
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    store = named(objects, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in store["spec"]
    waiting, cpu = scaler["spec"]["metrics"]
    assert waiting["pods"]["metric"]["name"] == "faceferry_store_waiting_faces"
    assert cpu["resource"]["name"] == "cpu"
    (scaled,) = of_kind(render(SEVERAL), "ScaledObject")
    waiting, cpu = scaled["spec"]["triggers"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == "faces-faceferry-store"
    assert (waiting["type"], waiting["metricType"], cpu["type"]) == ("prometheus", "AverageValue", "cpu")
    assert all(isinstance(value, str) for value in waiting["metadata"].values())


def test_the_index_is_tidied_and_repaired_with_the_store_s_rights_and_without_its_brokers() -> None:
    sets = {f"index.{what}.enabled": "true" for what in ("tidy", "repair")}
    objects = render(SEVERAL, sets=sets)
    store = named(objects, "Deployment", "faces-faceferry-store")
    jobs = of_kind(objects, "CronJob")
    assert [one["metadata"]["name"] for one in jobs] == [
        f"faces-faceferry-index-{w}" for w in ("tidy", "repair")
    ]
    for one in jobs:
        assert pod(one)["serviceAccountName"] == pod(store)["serviceAccountName"]
        assert container(one)["image"] == container(store)["image"]
        assert set(files(one)) == {"/run/secrets/aws/credentials"}
        assert one["spec"]["concurrencyPolicy"] == "Forbid"
    assert not of_kind(render(sets=BUCKET), "CronJob"), "nobody has asked for it"
    (small,) = of_kind(render(SMALL), "CronJob")
    assert "faces" in {volume["name"] for volume in pod(small)["volumes"]}


def test_a_claim_with_faces_in_it_stays_when_the_release_goes() -> None:
    (claim,) = of_kind(render(SMALL), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    mine = render(SMALL, sets={"folder.claim": "mine"})
    assert not of_kind(mine, "PersistentVolumeClaim")
    gallery = pod(named(mine, "Deployment", "faces-faceferry-gallery"))
    claimed = [each["persistentVolumeClaim"] for each in gallery["volumes"] if each["name"] == "faces"]
    assert claimed == [{"claimName": "mine", "readOnly": True}]


def test_nobody_in_the_cluster_reaches_faces_or_figures_unless_named() -> None:
    objects = render(SMALL)
    for part in ("store", "gallery"):
        assert named(objects, "NetworkPolicy", f"faces-faceferry-{part}")["spec"]["ingress"] == []
    (page,) = [one for one in of_kind(objects, "Service") if one["metadata"]["name"].endswith("-gallery")]
    assert page["spec"]["type"] == "ClusterIP"


def test_a_large_number_is_told_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("store: {env: {FACEFERRY_STORE_MAX_WAITING_BYTES: 134217728}}")
    store = named(render(tmp_path / "values.yaml", sets=BUCKET), "Deployment", "faces-faceferry-store")
    assert environment(store)["FACEFERRY_STORE_MAX_WAITING_BYTES"] == "134217728"


def test_prometheus_takes_the_alerts(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        skip("no promtool: Debian has it in the package prometheus")
    assert promtool is not None
    (rules,) = of_kind(render(SEVERAL), "PrometheusRule")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules["spec"]))
    subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], check=True, capture_output=True)
    assert rules["spec"] == yaml.safe_load((ROOT / "compose/metrics/rules.yml").read_text())


def test_a_packed_chart_has_all_that_it_needs(tmp_path: Path) -> None:
    assert helm("package", CHART, "--destination", tmp_path).returncode == 0
    (packed,) = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        assert "faceferry/files/broker/start" in archive.getnames()
        assert "faceferry/files/rules.yml" in archive.getnames()
    assert packed.name == f"faceferry-{_version()}.tgz"


def _version() -> str:
    told = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert told is not None
    return told[1]
