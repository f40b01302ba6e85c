import aiohttp
import pytest

from services.common import health
from services.common.errors import SetupError
from services.up.brokers import free_port


async def ask(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_readiness_names_each_dependency_and_what_is_wrong() -> None:
    port = free_port()
    problem: str | None = "no connection to 127.0.0.1:1883"
    checks = {"local_broker": lambda: problem, "disk": lambda: None}
    async with health.serve("127.0.0.1", port, checks):
        status, body = await ask(port, "/readyz")
        assert status == 503
        assert '"local_broker": "no connection to 127.0.0.1:1883"' in body
        assert '"disk": "ok"' in body
        problem = None
        assert (await ask(port, "/readyz"))[0] == 200


async def test_liveness_and_metrics_are_there() -> None:
    port = free_port()
    async with health.serve("127.0.0.1", port, {}):
        assert await ask(port, "/healthz") == (200, "ok\n")
        status, body = await ask(port, "/metrics")
        assert status == 200
        assert "# HELP process_resident_memory_bytes" in body


async def test_a_taken_port_is_named() -> None:
    port = free_port()
    async with health.serve("127.0.0.1", port, {}):
        with pytest.raises(SetupError, match="FACEFERRY_HTTP_PORT"):
            async with health.serve("127.0.0.1", port, {}):
                pass
