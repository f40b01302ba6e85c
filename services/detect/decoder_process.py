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
from services.detect import codec, cutting, decoder_protocol
from services.detect.boxes import Letterbox
from services.detect.codec import JpegImage
from services.detect.cutting import CropStyle
from services.detect.decode_cost import check_cost
from services.detect.decoder_protocol import Header

MEMORY_BYTES = 400 * 1024 * 1024
"""What a picture may take: all coefficients and all pixels of the largest that is let pass."""
_NICE = 10
_EXIT_AFTER_S = 1.0
"""By so much longer than its parent this process waits before it ends itself: the parent may be gone."""

Reply = list[bytes]


def main() -> int:
    """Answer until the input ends."""
    deadline_s = float(sys.argv[1])
    _limit_resources()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _write(sink, decoder_protocol.encode({}))
    while (question := _read(source)) is not None:
        signal.setitimer(signal.ITIMER_REAL, deadline_s + _EXIT_AFTER_S)
        _write(sink, _reply(*question))
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _limit_resources() -> None:
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


def _reply(header: Header, body: bytes) -> Reply:
    try:
        return _REPLIES[header["do"]](header, body)
    except Refused as refusal:
        return decoder_protocol.encode({"refused": refusal.reason, "detail": refusal.detail})
    except (MemoryError, cv2.error) as error:
        return decoder_protocol.encode({"refused": "too_much_to_decode", "detail": str(error)[:120]})


def _look(header: Header, body: bytes) -> Reply:
    """Answer with the picture as the detector wants it, after a check that decoding it is bearable."""
    jpeg = JpegImage.open(body, _scope(header))
    check_cost(body, jpeg.width, jpeg.height)
    letterbox = Letterbox.fit(jpeg.width, jpeg.height, header["size"])
    picture = codec.resize(jpeg.decode(letterbox.width, letterbox.height), letterbox.width, letterbox.height)
    about = {"width": jpeg.width, "height": jpeg.height}
    return decoder_protocol.encode(about, np.ascontiguousarray(picture).tobytes())


def _cut(header: Header, body: bytes) -> Reply:
    """Answer with the faces in these boxes."""
    whole, style = JpegImage.open(body, _scope(header)).decode(), CropStyle(*header["style"])
    cuts = [cutting.cut(whole, np.array(box, np.float32), style) for box in header["boxes"]]
    about = [one and [one.box, one.crop, one.sharpness, one.content_type, len(one.image)] for one in cuts]
    return decoder_protocol.encode({"cuts": about}, *(one.image for one in cuts if one is not None))


def _scope(header: Header) -> Scope:
    """Return what is looked at, as the other end has read it."""
    return Scope(tuple(tuple((x, y) for x, y in polygon) for polygon in header["mask"]))


_REPLIES: dict[str, Callable[[Header, bytes], Reply]] = {"look": _look, "cut": _cut}


def _read(source: BinaryIO) -> tuple[Header, bytes] | None:
    lengths = source.read(decoder_protocol.LENGTHS.size)
    if len(lengths) < decoder_protocol.LENGTHS.size:
        return None
    header_bytes, body_bytes = decoder_protocol.read_lengths(lengths)
    return decoder_protocol.read_header(source.read(header_bytes)), source.read(body_bytes)


def _write(sink: BinaryIO, pieces: Reply) -> None:
    sink.writelines(pieces)
    sink.flush()


if __name__ == "__main__":
    raise SystemExit(main())
