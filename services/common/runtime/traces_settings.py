from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from services.common.runtime.settings import Settings


def _otlp_url(text: str) -> str:
    """Return where traces go. What lets us in there has variables of the standard's own."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("an address such as http://collector:4318 is wanted")
    if parts.username is not None or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("no user, query, '#' or space belongs here: see OTEL_EXPORTER_OTLP_HEADERS")
    return text


class TracesSettings(Settings):
    """What the four services share that a face goes through."""

    otlp_url: Annotated[str, AfterValidator(_otlp_url)] | None = Field(
        None,
        description="where traces go, OTLP over HTTP, as http://collector:4318; none: there are none; OTEL_* "
        "variables hold besides",
    )
    trace_share: float = Field(
        0.1, ge=0, le=1, description="how many of the frames are traced, by capture's choice; 1: each"
    )
