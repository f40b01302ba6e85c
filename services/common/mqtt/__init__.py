"""Connections to brokers. Nothing else in this project knows the MQTT library."""

from collections.abc import Mapping, Sequence

from services.common.mqtt.broker import Broker
from services.common.mqtt.delivery import MAX_WAITING, Delivery
from services.common.mqtt.in_flight import NO_SUBSCRIBERS, Acknowledged
from services.common.mqtt.link import Link
from services.common.mqtt.outgoing import LinkDown, PacketTooLarge
from services.common.mqtt.session import BrokerUnavailable, probe
from services.common.runtime.http import Check

__all__ = [
    "MAX_WAITING",
    "NO_SUBSCRIBERS",
    "Acknowledged",
    "Broker",
    "BrokerUnavailable",
    "Delivery",
    "Link",
    "LinkDown",
    "PacketTooLarge",
    "any_ready",
    "probe",
    "readiness_notes",
]


def any_ready(links: Sequence[Link]) -> Check:
    """Return a check that passes while one of these links is ready: faces go by any broker."""

    def why_not_ready() -> str | None:
        problems = [link.why_not_ready() for link in links]
        return "; ".join(problem for problem in problems if problem) if all(problems) else None

    return why_not_ready


def readiness_notes(links: Sequence[Link]) -> Mapping[str, Check]:
    """Return the notes of `/readyz` about each broker, by its address; empty with a single broker."""
    return {f"broker {link.address}": link.why_not_ready for link in links} if len(links) > 1 else {}
