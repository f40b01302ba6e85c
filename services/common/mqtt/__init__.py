"""Connections to brokers. Nothing else in this project knows the MQTT library."""

from services.common.broker import Broker
from services.common.mqtt.link import (
    MAX_WAITING,
    UNHEARD,
    Acknowledged,
    Delivery,
    Link,
    LinkDown,
    PacketTooLarge,
)

__all__ = [
    "MAX_WAITING",
    "UNHEARD",
    "Acknowledged",
    "Broker",
    "Delivery",
    "Link",
    "LinkDown",
    "PacketTooLarge",
]
