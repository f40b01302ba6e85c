"""The process that decodes costly pictures: `python -m services.detect.decoder_process DEADLINE_S`.

It may be slow, run out of memory or be killed, and nothing but its one picture is lost with it. It reads
messages (see `decoder_protocol`) from its standard input and replies to each on its standard output. The
first message that it writes is empty, and says that it is ready.
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
"""The memory for one picture: all coefficients and all pixels of the largest that `check_cost` passes."""
_NICE = 10
_EXIT_AFTER_S = 1.0
"""How long after its parent's deadline this process ends itself, in case the parent is gone."""

Reply = list[bytes]


def main() -> int:
    """Reply to messages until the input ends; return the exit status."""
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
    """Yield the processor to detect's own threads, and bound the memory of this process."""
    cv2.setNumThreads(1)
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    used = re.search(r"^VmData:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert used is not None
    most_bytes = int(used[1]) * 1024 + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    # Python runs no signal handler while a native decoder works; the default action ends the process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # The parent handles signals to stop, and ends the input of this process.
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
    """Return the picture as the detector takes it, after a check of what decoding it costs."""
    jpeg = JpegImage.open(body, _scope(header))
    check_cost(body, jpeg.width, jpeg.height)
    letterbox = Letterbox.fit(jpeg.width, jpeg.height, header["size"])
    picture = codec.resize(jpeg.decode(letterbox.width, letterbox.height), letterbox.width, letterbox.height)
    about = {"width": jpeg.width, "height": jpeg.height}
    return decoder_protocol.encode(about, np.ascontiguousarray(picture).tobytes())


def _cut(header: Header, body: bytes) -> Reply:
    """Return the faces in these boxes, cut out."""
    whole, style = JpegImage.open(body, _scope(header)).decode(), CropStyle(*header["style"])
    cuts = [cutting.cut(whole, np.array(box, np.float32), style) for box in header["boxes"]]
    about = [one and [one.box, one.crop, one.sharpness, one.content_type, len(one.image)] for one in cuts]
    return decoder_protocol.encode({"cuts": about}, *(one.image for one in cuts if one is not None))


def _scope(header: Header) -> Scope:
    """Return the parts that are hidden, which the parent has validated."""
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
