"""The metrics of detect, and its summary in the log once a minute."""

import time

from prometheus_client import Counter, Gauge, Histogram, Info

from services.common.mqtt import Link
from services.common.runtime.metrics import Counts, Waiting, summarise, totals, waiting
from services.detect.custody import Custody

DETECTOR = Info("faceferry_detect_detector", "The detector in use, what it runs on, and its model.")
FRAMES = Counter("faceferry_detect_frames_total", "Frames worked on to the end.")
FRAMES_DROPPED = Counter(
    "faceferry_detect_frames_dropped_total", "Frames not worked on, or found to be no picture.", ["reason"]
)
MESSAGES_REFUSED = Counter(
    "faceferry_detect_messages_refused_total", "Messages that are neither a frame nor a receipt.", ["reason"]
)
FACES = Counter(
    "faceferry_detect_faces_total", "Faces found, by detector: yunet, centerface or haar.", ["detector"]
)
STAGE_SECONDS = Histogram(
    "faceferry_detect_stage_seconds",
    "Time for one frame: compare (with the last one), decode (reduced), detect, cut (full decode and crops).",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
)
LOOKS = Counter(
    "faceferry_detect_looks_total",
    "Live frames by what the detector was shown of them: whole, parts, or none, as nothing had changed.",
    ["extent"],
)
FRAME_AGE_SECONDS = Histogram(
    "faceferry_detect_frame_age_seconds",
    "Age of a live frame when its faces are published.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
QUESTION_SECONDS = Histogram(
    "faceferry_detect_question_seconds",
    "Time until forward has said which faces of a frame are wanted.",
    buckets=(
        0.0005,
        0.001,
        0.0015,
        0.002,
        0.0025,
        0.003,
        0.004,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1.0,
        2.0,
        5.0,
    ),
)
UNANSWERED = Counter(
    "faceferry_detect_unanswered_total", "Frames of which forward said nothing, so that all faces were cut."
)
NOT_ASKED = Counter("faceferry_detect_not_asked_total", "Questions that could not be sent.")
FRAMES_WAITING = Gauge("faceferry_detect_frames_waiting", "Frames that wait for their turn.")
FRAMES_IN_WORK = Gauge("faceferry_detect_frames_in_work", "Frames that are worked on.")
CUSTODY_FACES = Gauge("faceferry_detect_custody_faces", "Faces held until forward receipts them.")
CUSTODY_BYTES = Gauge("faceferry_detect_custody_bytes", "Bytes of the faces held.")
CUSTODY_OLDEST_SECONDS = Gauge("faceferry_detect_custody_oldest_seconds", "For how long the oldest is held.")
FACES_REFUSED = Counter(
    "faceferry_detect_faces_refused_total",
    "Faces that forward will never take, by reason; they are lost.",
    ["reason"],
)
FACES_RESENT = Counter("faceferry_detect_faces_resent_total", "Faces published again for want of a receipt.")


SOON_S = 1.0
"""A face held for longer than this makes the summary say what it waits for."""


async def log_summaries(custody: Custody, link: Link) -> None:
    """Log once a minute what was done and what waits, until cancelled; see `summarise`."""

    def waits() -> Waiting:
        oldest_s = custody.oldest_s(time.monotonic())
        silent = "forward has not receipted it" if oldest_s > SOON_S else None
        return waiting(len(custody), oldest_s, link.why_not_ready() or silent)

    await summarise("detect.summary", _did, waits)


def _did() -> Counts:
    return totals(
        {
            "frames": FRAMES,
            "faces": FACES,
            "dropped": FRAMES_DROPPED,
            "unanswered": UNANSWERED,
            "resent": FACES_RESENT,
        }
    )
