"""Connections to brokers. Nothing else in this project knows the MQTT library."""

from services.common.mqtt.asking import BrokerUnavailable, look_at
from services.common.mqtt.broker import Broker
from services.common.mqtt.delivery import MAX_WAITING, Delivery
from services.common.mqtt.link import Link
from services.common.mqtt.outgoing import LinkDown, PacketTooLarge
from services.common.mqtt.several import check_any, notes_of
from services.common.mqtt.unanswered import UNHEARD, Acknowledged

__all__ = [
    "MAX_WAITING",
    "UNHEARD",
    "Acknowledged",
    "Broker",
    "BrokerUnavailable",
    "Delivery",
    "Link",
    "LinkDown",
    "PacketTooLarge",
    "check_any",
    "look_at",
    "notes_of",
]
