"""Grafana's dashboards, each query of which a real Prometheus answers from recorded samples."""

import contextlib
import gzip
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from services.up.brokers import free_port
from tests.conftest import skip
from tests.metrics.record import SAMPLES
from tests.support import wait_for_port

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "compose" / "metrics" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (GRAFANA / "dashboards").iterdir()}
VARIABLES = {"$__rate_interval": "5m", "$device": ".*"}
MADE = {
    'faceferry_store_retries_total{reason="throttled",job="store",instance="b:1"}',
    'faceferry_store_refused_total{reason="bad_id",job="store",instance="b:1"}',
    'faceferry_store_dropped_total{reason="over_share",job="store",instance="b:1"}',
    'faceferry_set_aside_faces{reason="too_large",job="forward",instance="b:2"}',
    'faceferry_quarantine_faces{job="forward",instance="b:2"}',
    'faceferry_device_info{device="lobby",job="forward",instance="b:2"}',
    *(
        f'faceferry_{what}_bucket{{le="{le}",job="{job}",instance="b:3"{more}}}'
        for what, job, more in (
            ("capture_to_store_seconds", "store", ""),
            ("gallery_answer_seconds", "gallery", ',page="faces"'),
        )
        for le in ("0.1", "1.0", "+Inf")
    ),
}
"""What does not happen in two minutes that go well on a machine whose clock nobody vouches for."""


class Query(NamedTuple):
    """What one panel asks."""

    title: str
    expression: str
    legend: str


def queries() -> list[Query]:
    return [
        Query(f"{name}: {panel['title']}, {target['refId']}", target["expr"], target["legendFormat"])
        for name, dashboard in DASHBOARDS.items()
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


class Prometheus:
    """The real one, with the samples."""

    def __init__(self, port: int, at_s: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query"
        self._at_s = at_s

    def wait(self) -> None:
        """Wait until it has read its samples: it listens before that."""
        for _ in range(300):
            with contextlib.suppress(OSError):
                self.ask("vector(1)")
                return
            time.sleep(0.1)
        self.ask("vector(1)")

    def ask(self, expression: str) -> list[dict[str, Any]]:
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        words = urllib.parse.urlencode({"query": expression, "time": self._at_s})
        with urllib.request.urlopen(f"{self._url}?{words}", timeout=30) as answer:  # noqa: S310 - http
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    programs = [shutil.which(name) for name in ("prometheus", "promtool")]
    if None in programs:
        skip("no Prometheus: Debian has it in the package prometheus")
    prometheus, promtool = map(str, programs)
    folder = tmp_path_factory.mktemp("prometheus")
    lines, last_s = samples()
    (folder / "samples").write_text("\n".join([*lines, "# EOF", ""]))
    making = (promtool, "tsdb", "create-blocks-from", "openmetrics", folder / "samples", folder / "data")
    subprocess.run(making, check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("global: {}\n")
    port = free_port()
    words = [
        *(prometheus, f"--web.listen-address=127.0.0.1:{port}", f"--config.file={folder}/prometheus.yml"),
        *(f"--storage.tsdb.path={folder}/data", "--storage.tsdb.retention.time=100y"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    with contextlib.ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_for_port(port)
        found = Prometheus(port, last_s)
        found.wait()
        yield found


def samples() -> tuple[list[str], int]:
    """Return all lines, each series by itself and in order of time, and when the last one was."""
    with gzip.open(SAMPLES, "rt") as kept:
        lines = kept.read().splitlines()
    times = sorted({int(line.rpartition(" ")[2]) for line in lines})
    lines += [f"{series} {number} {at_s}" for series in MADE for number, at_s in enumerate(times)]
    lines.sort(key=lambda line: (line.rsplit(" ", 2)[0], int(line.rpartition(" ")[2])))
    return lines, times[-1]


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.title)
def test_every_query_is_answered_with_the_labels_of_its_legend(prometheus: Prometheus, query: Query) -> None:
    found = prometheus.ask(query.expression)
    assert found
    for each in found:
        assert set(re.findall(r"{{(\w+)}}", query.legend)) <= each["metric"].keys() | {"le"}
        assert each["value"][1] not in ("NaN", "+Inf"), each


def test_figures_of_two_devices_are_told_apart(prometheus: Prometheus) -> None:
    (query,) = [each for each in queries() if each.title == "edge: Set aside or refused, A"]
    assert [each["value"][1] for each in prometheus.ask(query.expression)] != ["0"]
    assert prometheus.ask(query.expression.replace("$device", "porch"))[0]["value"][1] == "0"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_their_rows_and_cover_no_other(name: str) -> None:
    places = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len(cells) == 24 * max(y + 1 for _, y in cells)
    assert len({panel["id"] for panel in DASHBOARDS[name]["panels"]}) == len(places)


def test_only_metrics_that_exist_are_asked_for() -> None:
    documented = set(re.findall(r"`(faceferry_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    asked = {
        each for query in queries() for each in re.findall(r"\bfaceferry_[a-z0-9_]+\b", query.expression)
    }
    asked -= {"faceferry_capture_state"} | documented
    assert {re.sub("_(bucket|sum|count)$", "", each) for each in asked} <= documented


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_what_is_provisioned_is_where_the_container_has_it(side: str) -> None:
    services = yaml.safe_load((ROOT / "compose" / side / "compose.yaml").read_text())["services"]
    dashboard = services["dashboard"]
    assert "../metrics/grafana:/etc/faceferry:ro" in dashboard["volumes"]
    assert dashboard["environment"]["GF_PATHS_PROVISIONING"] == "/etc/faceferry/provisioning"
    home = dashboard["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (GRAFANA / Path(home).relative_to("/etc/faceferry")).is_file()
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/faceferry.yml").read_text())["providers"]
    assert (GRAFANA / Path(provider["options"]["path"]).relative_to("/etc/faceferry")).is_dir()
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://metrics:9090"
    assert dashboard["profiles"] == services["metrics"]["profiles"]
