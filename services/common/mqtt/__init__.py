"""Connections to brokers. Nothing else in this project knows the MQTT library."""

from services.common.broker import Broker
from services.common.mqtt.delivery import MAX_WAITING, Delivery
from services.common.mqtt.link import Link, LinkDown, PacketTooLarge
from services.common.mqtt.unanswered import UNHEARD, Acknowledged

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
