from prometheus_client import Counter, Enum, Gauge

from services.common.runtime.metrics import Drops
from services.common.wire.status import STATES

FRAMES = Counter("faceferry_capture_frames_total", "Frames that came from a camera.", ["camera"])
PUBLISHED = Counter("faceferry_capture_published_total", "Frames sent to detect, resends too.", ["camera"])
ANSWERED = Counter("faceferry_capture_answered_total", "Answers from detect, drops too.", ["camera"])
DROPPED = Counter(
    "faceferry_capture_dropped_total", "Frames that were dropped, by reason.", ["camera", "reason"]
)
NOT_DUE = Counter(
    "faceferry_capture_not_due_total",
    "Frames that came before another look was worth it, and were neither encoded nor sent.",
    ["camera"],
)
SKIPPED = Counter(
    "faceferry_capture_skipped_total",
    "Times that bytes from a camera were skipped because they were no frame, by reason.",
    ["camera", "reason"],
)
STARTS = Counter("faceferry_capture_starts_total", "Starts of a camera's program.", ["camera"])
STATE = Enum("faceferry_capture_state", "What a camera does just now.", ["camera"], states=list(STATES))
IN_FLIGHT = Gauge("faceferry_capture_in_flight", "Frames that detect has not answered yet.", ["camera"])


class Tally:
    """The metrics of one camera: these labels, and drops that are logged at the first of each reason.

    Args:
        camera: the camera's name.
    """

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._drops = Drops(DROPPED, "capture.frame_dropped")
        self._skips = Drops(SKIPPED, "capture.bytes_skipped")
        self.frames = FRAMES.labels(camera)
        self.not_due = NOT_DUE.labels(camera)
        self.published = PUBLISHED.labels(camera)
        self.answered = ANSWERED.labels(camera)
        self.starts = STARTS.labels(camera)
        self.in_flight = IN_FLIGHT.labels(camera)
        self.state = STATE.labels(camera)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count `count` dropped frames of one reason."""
        for _ in range(count):
            self._drops.count(reason, self._camera, camera=self._camera)

    def skip(self, skipped: dict[str, int]) -> None:
        """Count what a reader skipped, by reason, and clear `skipped`, which is the reader's."""
        for reason, count in skipped.items():
            for _ in range(count):
                self._skips.count(reason, self._camera, camera=self._camera)
        skipped.clear()
