import gzip

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.common.errors import SetupError
from services.common.runtime import http
from services.up.brokers import free_port


async def ask(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def families(text: str) -> set[str]:
    """The names of OpenMetrics, by a reader that takes nothing else."""
    return {family.name for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]


async def test_readiness_names_each_dependency_and_what_is_wrong() -> None:
    port = free_port()
    problem: str | None = "no connection to 127.0.0.1:1883"
    checks = {"local_broker": lambda: problem, "disk": lambda: None}
    async with http.serve("127.0.0.1", port, checks):
        status, body = await ask(port, "/readyz")
        assert status == 503
        assert '"local_broker": "no connection to 127.0.0.1:1883"' in body
        assert '"disk": "ok"' in body
        problem = None
        assert (await ask(port, "/readyz"))[0] == 200


async def test_liveness_and_metrics_are_there() -> None:
    port = free_port()
    async with http.serve("127.0.0.1", port, {}):
        assert await ask(port, "/healthz") == (200, "ok\n")
        status, body = await ask(port, "/metrics")
        assert status == 200
        assert "# HELP process_resident_memory_bytes" in body


async def test_metrics_are_openmetrics_for_clients_that_ask_for_it() -> None:
    port = free_port()
    asked = {
        "application/openmetrics-text": True,
        # What Prometheus asks with.
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": True,
        "text/plain;version=0.0.4, Application/OpenMetrics-Text;version=0.0.1": True,
        "application/openmetrics-text; version=of mine": True,
        "text/plain": False,
        "*/*": False,
        "": False,
    }
    async with http.serve("127.0.0.1", port, {}), aiohttp.ClientSession() as session:
        for accept, is_openmetrics in asked.items():
            async with session.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as answer:
                text = await answer.text()
                kind = "application/openmetrics-text" if is_openmetrics else "text/plain"
                assert answer.content_type == kind, accept
                assert text.endswith("# EOF\n") == is_openmetrics
                assert answer.headers["Vary"] == "Accept, Accept-Encoding"
            if is_openmetrics:
                assert "process_start_time_seconds" in families(text)


async def test_metrics_go_as_gzip_to_clients_that_accept_it() -> None:
    port = free_port()
    async with http.serve("127.0.0.1", port, {}), aiohttp.ClientSession(auto_decompress=False) as session:
        for accepted, is_gzip in (
            ("gzip", True),
            ("deflate, gzip;q=0.8", True),
            ("gzip;q=0", False),
            ("br", False),
        ):
            headers = {"Accept-Encoding": accepted}
            async with session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer:
                body = await answer.read()
                assert (answer.headers.get("Content-Encoding") == "gzip") == is_gzip
                assert (gzip.decompress(body) if is_gzip else body).startswith(b"# HELP")


async def test_a_taken_port_is_named() -> None:
    port = free_port()
    async with http.serve("127.0.0.1", port, {}):
        with pytest.raises(SetupError, match="FACEFERRY_HTTP_PORT"):
            async with http.serve("127.0.0.1", port, {}):
                pass
