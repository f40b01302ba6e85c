"""Links to all of several brokers at once."""

from collections.abc import Mapping, Sequence

from services.common.mqtt.link import Link
from services.common.runtime.http import Check


def check_any(links: Sequence[Link]) -> Check:
    """Return a check that is fine while one of these is: faces go by whichever broker there is."""

    def why_not_ready() -> str | None:
        problems = [link.why_not_ready() for link in links]
        return "; ".join(problem for problem in problems if problem) if all(problems) else None

    return why_not_ready


def notes_of(links: Sequence[Link]) -> Mapping[str, Check]:
    """Return what `/readyz` is to tell of each broker, by its address; nothing where there is but one."""
    return {f"broker {link.address}": link.why_not_ready for link in links} if len(links) > 1 else {}
