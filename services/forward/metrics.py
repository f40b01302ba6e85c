from prometheus_client import Counter, Gauge

SPOOL_FACES = Gauge("faceferry_spool_faces", "Faces held on disk until the store has them.")
SPOOL_BYTES = Gauge("faceferry_spool_bytes", "What the spool's database and its log take on disk.")
SPOOL_MAX_BYTES = Gauge("faceferry_spool_max_bytes", "What they may take.")
SPOOL_OLDEST_SECONDS = Gauge(
    "faceferry_spool_oldest_seconds", "For how long the oldest face is held, by the steady clock."
)
SPOOL_IS_FULL = Gauge("faceferry_spool_full", "Whether forward takes no face for want of room.")
SPOOL_DAMAGED = Counter("faceferry_spool_damaged_total", "Spools found damaged and replaced.")
QUARANTINE_FACES = Gauge("faceferry_quarantine_faces", "Faces the store has refused, kept for a look.")
SET_ASIDE_FACES = Gauge(
    "faceferry_set_aside_faces",
    "Faces that cannot be delivered as things are, kept apart, by reason.",
    ["reason"],
)
SET_ASIDE = Counter("faceferry_forward_set_aside_total", "Times a face was set aside, by reason.", ["reason"])

FACES_TAKEN = Counter("faceferry_forward_taken_total", "Faces receipted to detect.")
LAST_FACE_AT = Gauge(
    "faceferry_forward_last_face_timestamp_seconds",
    "When the last face of a camera was taken, Unix time.",
    ["camera"],
)
FACES_STORED = Counter("faceferry_forward_stored_total", "Faces the store has receipted.")
FACES_REFUSED = Counter(
    "faceferry_forward_refused_total", "Faces the store has refused, by reason.", ["reason"]
)
FACES_SENT = Counter("faceferry_forward_sent_total", "Publications of faces, resends included.")
FACES_RESENT = Counter("faceferry_forward_resent_total", "Publications of faces that were sent before.")
DROPPED = Counter(
    "faceferry_forward_dropped_total", "Messages that forward did not take, by reason.", ["reason"]
)
ERASURES = Gauge("faceferry_forward_erasures", "Orders to erase that this device knows, and keeps out.")

SIGHTS = Counter("faceferry_forward_sights_total", "Faces seen in frames, of which detect asked.")
WANTED = Counter(
    "faceferry_forward_wanted_total",
    "Pictures wanted, by why: first, better, changed, back or missing.",
    ["why"],
)
VISITS_OPEN = Gauge("faceferry_forward_visits_open", "Visits that go on.")

IN_FLIGHT_BYTES = Gauge("faceferry_forward_in_flight_bytes", "Bytes sent and not yet receipted.")
WINDOW_BYTES = Gauge("faceferry_forward_window_bytes", "Bytes that may be in flight.")
STORE_SILENT = Gauge(
    "faceferry_forward_store_silent", "Whether faces were sent and nothing at all was receipted since."
)

MOST_CAMERAS = 256
"""Their names come from the local broker; beyond this no new label is made."""


class LastFaceGauge:
    """Sets the metric of each camera's last face, of a bounded number of cameras."""

    def __init__(self) -> None:
        self._cameras: set[str] = set()

    def note(self, camera: str, now_unix_s: float) -> None:
        """Note that a face of a camera was taken just now, Unix time."""
        if camera in self._cameras or len(self._cameras) < MOST_CAMERAS:
            self._cameras.add(camera)
            LAST_FACE_AT.labels(camera).set(now_unix_s)
