from prometheus_client import Counter, Gauge

NOTIFY_SENT = Counter("faceferry_notify_sent_total", "Messages about visits that their receiver has taken.")
NOTIFY_RETRIES = Counter(
    "faceferry_notify_retries_total", "Times that a message could not be sent just then."
)
NOTIFY_DROPPED = Counter(
    "faceferry_notify_dropped_total", "Messages about visits that never arrive, by reason.", ["reason"]
)
NOTIFY_WAITING = Gauge("faceferry_notify_waiting", "Messages about visits that are to be sent.")
