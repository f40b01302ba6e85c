"""Traces of the four services, and a receiver that takes OTLP apart by the standard's own definitions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import skip
from tests.rigs.posting import posted_to
from tests.support import MosquittoServer, ServiceProcess, eventually

SERVICES = ("store", "forward", "detect", "capture")


@dataclass(frozen=True)
class Span:
    """One span, with ids in hexadecimal digits."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    known: dict[str, Any]
    problem: str
    start_s: float
    end_s: float


@dataclass
class Receiver:
    """What has come in."""

    url: str = ""
    status: int = 200
    spans: list[Span] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
            ExportTraceServiceRequest,
        )

        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            service = _known(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_span(service, each) for each in scope.spans]


def _span(service: str, each: Any) -> Span:
    return Span(
        service,
        each.name,
        each.trace_id.hex(),
        each.span_id.hex(),
        each.parent_span_id.hex(),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in each.links),
        _known(each.attributes),
        each.status.message,
        each.start_time_unix_nano / 1e9,
        each.end_time_unix_nano / 1e9,
    )


def _known(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for as long as the context lasts."""
    receiver = Receiver()

    def take(path: str, body: bytes) -> int:
        assert path == "/v1/traces"
        if receiver.status == 200:
            receiver.take(body)
        return receiver.status

    with posted_to(take) as receiver.url:
        yield receiver


def needs_otel() -> None:
    """Skip a test where the extra is not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415
    except ImportError:
        skip("the extra `otel` is not installed")


@contextlib.asynccontextmanager
async def pipeline(folder: Path, clip: Path, url: str) -> AsyncIterator[dict[str, ServiceProcess]]:
    """The four services at work on a recording, with traces to this address.

    The cloud's broker begins only when there are faces in the spool.
    """
    with contextlib.ExitStack() as stack:
        local, cloud = MosquittoServer(folder), MosquittoServer(folder)
        stack.callback(local.start().kill)
        stack.callback(cloud.kill)
        settings = {
            "FACEFERRY_DEVICE": "porch",
            "FACEFERRY_KEEP": "every",
            "FACEFERRY_LOCAL_MQTT_URL": local.url,
            "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
            "FACEFERRY_STORE_URL": (folder / "faces").as_uri(),
            "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
            "FACEFERRY_CAMERAS": f"front={clip.as_uri()}?paced=1",
            "FACEFERRY_OTLP_URL": url,
            "FACEFERRY_TRACE_SHARE": "1",
            "FACEFERRY_LOG_FORMAT": "json",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        services = {name: ServiceProcess(name, folder, settings) for name in SERVICES}
        for service in services.values():
            stack.callback(service.start().kill)
        await eventually(lambda: _count(services, "forward", "faceferry_forward_taken_total") > 2, 60)
        await asyncio.sleep(0.5)
        cloud.start()
        yield services


def _count(services: dict[str, ServiceProcess], name: str, metric: str) -> float:
    with contextlib.suppress(OSError):
        return services[name].metric(metric)
    return 0.0
