"""OpenTelemetry's own collector, built for tests: it takes OTLP and says what it has understood.

`python -m tests.collector.server` builds it with Go in some minutes, and keeps it in the user's cache.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.up.brokers import free_port
from tests.conftest import skip
from tests.go_program import GoProgram
from tests.support import wait_for_port

_PROGRAM = GoProgram(
    "otel-collector",
    Path(__file__).parent,
    ("go.mod", "go.sum", "main.go"),
    ["-mod=mod", "."],
    {"CGO_ENABLED": "0"},
)
_CONFIG = """
receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: "127.0.0.1:{port}" }} }} }} }}
exporters: {{ debug: {{ verbosity: detailed, use_internal_logger: false, sampling_initial: 1000000 }} }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [debug] }} }}
"""
_SPAN = re.compile(
    r"Trace ID +: (?P<trace>\w*)\n +Parent ID +: (?P<parent>\w*)\n +ID +: (?P<id>\w+)\n"
    r" +Name +: (?P<name>[^\n]+)"
)
_LINK = re.compile(r"SpanLink #0\n +-> Trace ID: (\w+)\n +-> ID: (\w+)")


@dataclass(frozen=True)
class Seen:
    """A span as the collector tells it."""

    name: str
    trace: str
    id: str
    parent: str
    link: tuple[str, str] | None


def build() -> str | None:
    """Build the program, if there is none yet; return why that cannot be done."""
    why = _PROGRAM.build()
    return why and f"no collector: {why}"


class Collector:
    """The collector, on loopback, in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        if not _PROGRAM.path.exists():
            skip("no collector: `python -m tests.collector.server` builds one, with Go")
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._config = folder / "collector.yaml"
        self._config.write_text(_CONFIG.format(port=self._port))
        self._words = folder / "collector.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._words.open("wb") as words:
            self._process = subprocess.Popen(
                [_PROGRAM.path, "--config", f"file:{self._config}"],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
        wait_for_port(self._port)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def spans(self) -> list[Seen]:
        """Return what has come in so far."""
        spans = []
        for text in re.split(r"^Span #\d+\n", self._words.read_text(), flags=re.MULTILINE)[1:]:
            found = _SPAN.search(text)
            assert found is not None, text
            link = _LINK.search(text)
            spans.append(Seen(**found.groupdict(), link=(link[1], link[2]) if link else None))
        return spans


if __name__ == "__main__":
    sys.exit(build())
