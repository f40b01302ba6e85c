"""Metrics that more than one service has; each service declares its own in its `metrics.py`."""

from prometheus_client import Counter, Gauge

DEVICE_INFO = Gauge(
    "faceferry_device_info",
    "The device that a process is of, for whoever puts those of several together.",
    ["device"],
)
MQTT_LINK_UP = Gauge(
    "faceferry_mqtt_link_up", "Whether the connection to a broker is up.", ["link", "broker"]
)
MQTT_DROPPED = Counter(
    "faceferry_mqtt_dropped_total", "MQTT messages dropped before a service saw them.", ["link", "reason"]
)
CERTIFICATE_EXPIRY = Gauge(
    "faceferry_certificate_expiry_timestamp_seconds",
    "When a certificate expires: our own, the authority's, or the one that the broker has shown.",
    ["link", "broker", "certificate"],
)
HTTP_CLOSED = Counter(
    "faceferry_http_closed_total", "Connections to our own HTTP ports that were ended, by reason.", ["reason"]
)
