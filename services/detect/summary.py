"""What detect says of itself once a minute."""

import time

from services.common.mqtt import Link
from services.common.runtime.metrics import Counts, Waiting, summarise, totals, waiting
from services.detect import metrics
from services.detect.custody import Custody

SOON_S = 1.0
"""A face that is held for longer waits for something."""


async def tell(custody: Custody, link: Link) -> None:
    """Log what was done and what waits, for ever; see `common.summary`."""

    def waits() -> Waiting:
        oldest_s = custody.oldest_s(time.monotonic())
        silent = "forward has not receipted it" if oldest_s > SOON_S else None
        return waiting(len(custody), oldest_s, link.why_not_ready() or silent)

    await summarise("detect.summary", _did, waits)


def _did() -> Counts:
    return totals(
        {
            "frames": metrics.FRAMES,
            "faces": metrics.FACES,
            "dropped": metrics.FRAMES_DROPPED,
            "unanswered": metrics.UNANSWERED,
            "resent": metrics.FACES_RESENT,
        }
    )
