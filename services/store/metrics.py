from prometheus_client import Counter, Gauge, Histogram

from services.common.runtime.metrics import Drops

PUTS = Counter(
    "faceferry_store_puts_total",
    "Faces made durable, by outcome: created, or existing where the store had it already.",
    ["outcome"],
)
PUT_SECONDS = Histogram(
    "faceferry_store_put_seconds",
    "How long a successful write took.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RETRIES = Counter("faceferry_store_retries_total", "Writes that failed and are tried again.", ["reason"])
REFUSED = Counter("faceferry_store_refused_total", "Messages that can never be stored.", ["reason"])
DROPPED = Counter("faceferry_store_dropped_total", "Faces and receipts left to be sent again.", ["reason"])
COPIES = Counter(
    "faceferry_store_copies_total",
    "Faces that came again while they were being written, or past a flood as well.",
)
LANES = Gauge("faceferry_store_lanes", "Devices whose faces bypass the flood of another one, at each broker.")
DEAF = Counter(
    "faceferry_store_deaf_total",
    "Connections made anew because nothing came, not even messages that the store sent to itself.",
)
RECEIPTED = Counter("faceferry_store_receipted_total", "Faces that a receipt was sent for.", ["kind"])
LAST_FACE_AT = Gauge(
    "faceferry_store_last_face_timestamp_seconds",
    "When the last face was stored, Unix time; 0 if none was.",
)
WAITING_FACES = Gauge("faceferry_store_waiting_faces", "Faces in memory, not stored yet.")
WAITING_BYTES = Gauge("faceferry_store_waiting_bytes", "Bytes of images in memory, not stored yet.")
AVAILABLE = Gauge("faceferry_store_available", "Whether the bucket or folder takes writes.")
INDEXED = Counter("faceferry_store_indexed_total", "Faces that were written into the index.")
UNINDEXED = Counter(
    "faceferry_store_unindexed_total",
    "Stored faces that are missing in the index until it is repaired, by what kept it from being written.",
    ["reason"],
)
CAPTURE_TO_STORE_SECONDS = Histogram(
    "faceferry_capture_to_store_seconds",
    "From the moment a frame was taken until its face was durable.",
    buckets=(0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600, 3600, 86400),
)
ERASURES = Gauge("faceferry_store_erasures", "Orders to erase that this store knows, and keeps out.")
ERASURES_READ_AT = Gauge(
    "faceferry_store_erasures_read_timestamp_seconds",
    "When the log of erasures was last read, Unix time; 0 if it never was.",
)
ERASURE_REFUSED = Counter(
    "faceferry_store_erasure_refused_total",
    "Lines of the log of erasures, and reports of devices, that are invalid.",
    ["reason"],
)
ERASURE_REPORTS = Counter(
    "faceferry_store_erasure_reports_total", "Reports of devices about orders to erase that were kept."
)
EXPIRED = Counter(
    "faceferry_store_expired_copies_total",
    "Copies of faces that were removed for their age: images, their .json files, versions in a bucket.",
)
SWEPT_AT = Gauge(
    "faceferry_store_swept_timestamp_seconds",
    "When the last sweep for what is too old ended, Unix time; 0 if none has.",
)
SWEEPS_FAILED = Counter(
    "faceferry_store_sweeps_failed_total",
    "Sweeps for what is too old that could not be finished.",
    ["reason"],
)
SWEEP_REFUSED = Counter(
    "faceferry_store_not_removed_total",
    "Copies of faces that are too old and that the bucket or folder refuses to remove.",
    ["reason"],
)


FACE_DROPS = Drops(DROPPED, "store.face_dropped")
"""Faces dropped before they were queued or evicted from the queue; their sender still has them."""
