"""The process that decodes heavy pictures: `python -m services.detect.decoder_process DEADLINE_S`.

It may be slow, run out of memory or be killed, and nothing is lost with it: it knows one picture at a time.
It reads parcels from its standard input and answers each on its standard output. What it says first, an
empty parcel, says that it is ready.
"""

import contextlib
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from services.common.errors import Refused
from services.common.wire.scope import Scope
from services.detect import cutting, parcels, pictures
from services.detect.boxes import Letterbox
from services.detect.cutting import Style
from services.detect.light import check_heavy
from services.detect.parcels import Facts
from services.detect.pictures import Jpeg

MEMORY_BYTES = 400 * 1024 * 1024
"""What a picture may take: all coefficients and all pixels of the largest that is let pass."""
_NICE = 10
_EXIT_WITHOUT_WORD_S = 1.0
"""By so much longer than its parent this process waits before it ends itself: the parent may be gone."""

Answer = list[bytes]


def main() -> int:
    """Answer until the input ends."""
    deadline_s = float(sys.argv[1])
    _behave()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _write(sink, parcels.pack({}))
    while (question := _read(source)) is not None:
        signal.setitimer(signal.ITIMER_REAL, deadline_s + _EXIT_WITHOUT_WORD_S)
        _write(sink, _answer(*question))
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _behave() -> None:
    """Stand back behind detect's own threads, for the processor and for memory."""
    cv2.setNumThreads(1)
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    used = re.search(r"^VmData:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert used is not None
    most_bytes = int(used[1]) * 1024 + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    # A native decoder returns to no Python code that could hear a signal: the default action ends it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # An order to stop is the parent's to hear; the end of the input is ours.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _answer(facts: Facts, data: bytes) -> Answer:
    try:
        return _ANSWERS[facts["do"]](facts, data)
    except Refused as refusal:
        return parcels.pack({"refused": refusal.reason, "detail": refusal.detail})
    except (MemoryError, cv2.error) as error:
        return parcels.pack({"refused": "too_much_to_decode", "detail": str(error)[:120]})


def _look(facts: Facts, data: bytes) -> Answer:
    """Answer with the picture as the detector wants it, after a check that decoding it is bearable."""
    jpeg = Jpeg.open(data, _scope(facts))
    check_heavy(data, jpeg.width, jpeg.height)
    letterbox = Letterbox.fit(jpeg.width, jpeg.height, facts["size"])
    picture = pictures.resize(
        jpeg.decode(letterbox.width, letterbox.height), letterbox.width, letterbox.height
    )
    about = {"width": jpeg.width, "height": jpeg.height}
    return parcels.pack(about, np.ascontiguousarray(picture).tobytes())


def _cut(facts: Facts, data: bytes) -> Answer:
    """Answer with the faces in these boxes."""
    whole, style = Jpeg.open(data, _scope(facts)).decode(), Style(*facts["style"])
    cuts = [cutting.cut(whole, np.array(box, np.float32), style) for box in facts["boxes"]]
    about = [one and [one.box, one.crop, one.sharpness, one.content_type, len(one.image)] for one in cuts]
    return parcels.pack({"cuts": about}, *(one.image for one in cuts if one is not None))


def _scope(facts: Facts) -> Scope:
    """Return what is looked at, as the other end has read it."""
    return Scope(tuple(tuple((x, y) for x, y in polygon) for polygon in facts["mask"]))


_ANSWERS: dict[str, Callable[[Facts, bytes], Answer]] = {"look": _look, "cut": _cut}


def _read(source: BinaryIO) -> tuple[Facts, bytes] | None:
    head = source.read(parcels.HEAD.size)
    if len(head) < parcels.HEAD.size:
        return None
    facts_bytes, other_bytes = parcels.read_head(head)
    return parcels.read_facts(source.read(facts_bytes)), source.read(other_bytes)


def _write(sink: BinaryIO, pieces: Answer) -> None:
    sink.writelines(pieces)
    sink.flush()


if __name__ == "__main__":
    raise SystemExit(main())
