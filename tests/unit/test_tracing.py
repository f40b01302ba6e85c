import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.errors import SetupError
from services.common.runtime import tracing
from services.common.runtime.shared_settings import TracesSettings
from services.common.runtime.spans import NO_SPAN, Known, Span
from services.common.wire.faces import encode_face
from services.common.wire.frames import Frame, decode_frame, encode_frame
from services.common.wire.topics import Source
from services.forward.sender import SendSpans
from services.forward.spool.face import SpooledFace, from_row, to_row
from services.store.admission import admit
from tests.storing import face

PLACE = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER = f"00-{'c' * 32}-{'d' * 16}-01"


class Told:
    """A tracer that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def begin(self, name: str, start_s: float | None, _known: dict[str, Known]) -> Span:
        return ToldSpan(self, "begin", name, start_s)

    def go_on(self, name: str, parent: str, _known: dict[str, Known]) -> Span:
        return ToldSpan(self, "go on", name, parent)

    def follow(self, name: str, earlier: str, _known: dict[str, Known]) -> Span:
        return ToldSpan(self, "follow", name, earlier)


class ToldSpan:
    traceparent = OTHER

    def __init__(self, tracer: Told, *what: Any) -> None:
        self._tracer = tracer
        tracer.told.append(what)

    def note(self, **known: Known) -> None:
        self._tracer.told.append(("note", known))

    def end(self, problem: str | None = None) -> None:
        self._tracer.told.append(("end", problem))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told()
    monkeypatch.setattr(tracing, "_tracer", told)
    return told  # type: ignore[return-value]


def test_without_an_address_nothing_is_traced_and_nothing_is_loaded() -> None:
    assert tracing.begin("capture") is NO_SPAN
    assert tracing.go_on("detect", PLACE) is NO_SPAN
    assert tracing.follow("forward send", PLACE) is NO_SPAN
    loaded = "import sys\n" + "".join(f"import services.{name}.__main__\n" for name in ("capture", "detect"))
    loaded += "import services.forward.__main__, services.store.__main__\n"
    loaded += "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0


@pytest.mark.parametrize(
    "place",
    [
        None,
        "",
        "nonsense",
        PLACE.replace("-01", "-00"),
        PLACE.replace("a" * 32, "0" * 32),
        PLACE.replace("b" * 16, "0" * 16),
        PLACE.upper(),
        PLACE + "-x",
        "01" + PLACE[2:],
    ],
)
def test_what_is_no_place_in_a_trace_that_is_made_is_not_gone_on_with(told: Told, place: str | None) -> None:
    assert tracing.go_on("detect", place) is NO_SPAN
    assert tracing.follow("forward send", place) is NO_SPAN
    assert told.told == []


def test_a_place_goes_with_a_frame_and_with_a_face() -> None:
    frame = Frame(Source("porch", "front"), 1, datetime(2026, 1, 31, tzinfo=UTC), b"x", traceparent=PLACE)
    assert decode_frame(encode_frame(frame)) == frame
    traced = face().traced(PLACE)
    row = [each if isinstance(each, bytes) else each.encode() for each in to_row(encode_face(traced))]
    spooled = from_row(1, [traced.id.encode(), *row])
    assert spooled is not None
    assert ("traceparent", PLACE) in spooled.message.attributes
    assert traced.traced(None) == face() == face().traced(None)


def test_what_is_stored_is_the_same_whether_it_was_traced_or_not() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    plain, traced = (admit(encode_face(each), now, 10**6) for each in (face(), face().traced(PLACE)))
    assert plain.item == traced.item
    assert (plain.traceparent, traced.traceparent) == (None, PLACE)


def test_a_send_is_a_trace_of_its_own_that_is_linked_and_goes_out_with_the_face(told: Told) -> None:
    spans = SendSpans()
    spooled = SpooledFace(1, face().id, encode_face(face().traced(PLACE)))
    attributes = spans.begin(spooled)
    assert [pair for pair in attributes if pair[0] == "traceparent"] == [("traceparent", OTHER)]
    assert spans.begin(spooled) == attributes, "again over the same connection"
    spans.cut_short()
    spans.begin(spooled)
    spans.end(spooled.id)
    spans.end(spooled.id)
    follow = ("follow", "forward send", PLACE)
    assert told.told == [follow, ("end", "link_lost"), follow, ("end", None)]


def test_faces_that_are_not_traced_go_out_as_they_came(told: Told) -> None:
    spooled = SpooledFace(1, face().id, encode_face(face()))
    assert SendSpans().begin(spooled) == spooled.message.attributes
    assert told.told == []


async def test_who_wants_traces_without_the_extra_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "services.common.runtime.otel", None)

    async def work() -> None:
        raise AssertionError

    settings = TracesSettings(otlp_url="http://127.0.0.1:4318")
    with pytest.raises(SetupError, match=r"pip install 'faceferry\[otel\]'"):
        await tracing.traced(work(), "detect", settings)


@pytest.mark.parametrize(
    "url", ["collector:4318", "http://", "http://a:b@c", "http://a?b", "ftp://a", "http://a b"]
)
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(ValueError, match=r"wanted|belongs"):
        TracesSettings(otlp_url=url)
