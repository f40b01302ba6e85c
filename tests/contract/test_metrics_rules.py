"""What Prometheus makes of our metrics and of the alert rules on them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from tests.conftest import skip

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose" / "metrics"
SERVICES = ("capture", "detect", "forward", "store", "gallery")
TELL = "import services.{0}.service, prometheus_client as p; print(p.generate_latest().decode(), end='')"

TELL_OPENMETRICS = TELL.replace("p.generate_latest()", "o.generate_latest(p.REGISTRY)").replace(
    "prometheus_client as p", "prometheus_client as p, prometheus_client.openmetrics.exposition as o"
)


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        skip("no promtool: Debian has it in the package prometheus")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def exposed() -> dict[str, str]:
    """What each service says at /metrics before anything has happened."""
    return {name: expose(name, TELL) for name in SERVICES}


def expose(service: str, tell: str) -> str:
    command = [sys.executable, "-c", tell.format(service)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def described(exposition: str) -> dict[str, str]:
    """Return the kind of each metric."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE))


def series(metrics: dict[str, str]) -> set[str]:
    """Return the names under which samples of these metrics are found."""
    ends = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + end for name, kind in metrics.items() for end in ends.get(kind, ("",))}


def run(promtool: str, *arguments: str | Path, given: str | None = None) -> str:
    done = subprocess.run(
        [promtool, *map(str, arguments)],
        cwd=FOLDER,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_prometheus_finds_nothing_wrong_with_the_metrics(
    promtool: str, exposed: dict[str, str], service: str
) -> None:
    assert run(promtool, "check", "metrics", given=exposed[service]) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_openmetrics_says_the_same(exposed: dict[str, str], service: str) -> None:
    told = openmetrics(expose(service, TELL_OPENMETRICS))  # type: ignore[no-untyped-call]
    assert names(told) == names(text(exposed[service]))


def names(families: Iterable[Metric]) -> set[str]:
    return {sample.name for family in families for sample in family.samples}


def test_the_rules_and_the_configurations_are_valid(promtool: str) -> None:
    assert "18 rules found" in run(promtool, "check", "rules", "rules.yml")
    run(promtool, "check", "config", "edge.yml")
    run(promtool, "check", "config", "cloud.yml")


def test_each_alert_is_heard_when_it_should_be(promtool: str) -> None:
    run(promtool, "test", "rules", "rules.test.yml")


@pytest.mark.parametrize(
    "document", [FOLDER / "rules.yml", ROOT / "docs" / "metrics.md"], ids=lambda it: it.name
)
def test_only_metrics_that_exist_are_named(exposed: dict[str, str], document: Path) -> None:
    known = series({name: kind for text in exposed.values() for name, kind in described(text).items()})
    known |= {name for text in exposed.values() for name in described(text)}
    named = set(re.findall(r"\bfaceferry_[a-z0-9_]+\b", document.read_text()))
    assert named, document
    assert named - known == set()


def test_every_metric_is_in_the_documentation(exposed: dict[str, str]) -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    ours = {name for given in exposed.values() for name in described(given) if name.startswith("faceferry_")}
    assert {name for name in ours if not name.endswith("_created") and f"`{name}" not in text} == set()


def test_every_service_is_looked_at_on_the_port_of_its_image() -> None:
    jobs = "".join((FOLDER / f"{side}.yml").read_text() for side in ("edge", "cloud"))
    assert re.findall(r"job_name: (\w+)", jobs) == list(SERVICES)
    assert set(re.findall(r"port: (\d+)", jobs)) == {"8080"}
    for name in SERVICES:
        dockerfile = ROOT / "services" / name / "Dockerfile"
        if dockerfile.exists():
            assert "FACEFERRY_HTTP_PORT=8080" in dockerfile.read_text()
