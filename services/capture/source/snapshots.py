"""Polls an address that answers each request with one JPEG, and writes the JPEGs as multipart.

A program of its own, as for every camera. `look` prints how an address answers (see `HttpKind`), `poll FPS`
writes until it is stopped or no picture comes any longer, `poll FPS PROGRAM ...` writes to that program. The
address is in the environment, which other users cannot read as they can the command line. Errors go to
standard error.
"""

import contextlib
import os
import subprocess
import sys
import time
from http.client import HTTPResponse
from typing import IO

from services.capture.source.http_address import VARIABLE, HttpAddress, HttpKind, NoSnapshot, from_environment
from services.capture.stream.jpegs import JpegReader
from services.capture.stream.multipart import is_jpeg
from services.capture.stream.picture import MAX_JPEG_BYTES

LOOK_S = 3.0
"""How long a response without a length is read to see whether it ends after its first picture, in seconds."""
MOST_FAILURES = 3
"""In a row: a camera that is busy may miss a request."""

_CHUNK_BYTES = 64 * 1024
_BOUNDARY = b"--faceferry\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def look(address: HttpAddress) -> HttpKind:
    """Return how an address answers, `STREAM` if it does not."""
    try:
        with address.ask() as answer:
            return _answer(answer)
    except NoSnapshot:
        return HttpKind.STREAM


def _answer(answer: HTTPResponse) -> HttpKind:
    kind = _kind(answer)
    if kind.startswith("multipart/"):
        return HttpKind.MULTIPART
    if kind.startswith(("video/", "audio/")):
        return HttpKind.STREAM
    if kind == "image/jpeg" and answer.length is not None:
        is_snapshot = answer.length <= MAX_JPEG_BYTES
    else:
        is_snapshot = _is_one_jpeg(answer, time.monotonic() + LOOK_S)
    return HttpKind.SNAPSHOT if is_snapshot else HttpKind.STREAM


def _is_one_jpeg(answer: HTTPResponse, deadline_s: float) -> bool:
    """Say whether the response ends, in time, after its first picture."""
    reader, pictures = JpegReader(), 0
    while time.monotonic() < deadline_s:
        view = reader.buffer()
        piece = answer.read1(min(len(view), _CHUNK_BYTES))
        if not piece:
            return pictures + len(reader.ended()) == 1
        view[: len(piece)] = piece
        pictures += len(reader.received(len(piece)))
        if pictures > 1 or (reader.skipped and not pictures):
            return False
    return False


def _kind(answer: HTTPResponse) -> str:
    """Return the content type, empty where there is none; the library would return a default."""
    return answer.headers.get_content_type() if "Content-Type" in answer.headers else ""


def fetch(address: HttpAddress) -> bytes:
    """Return the camera's current picture, a JPEG.

    Raises:
        NoSnapshot: there is none; says why.
    """
    with address.ask() as answer:
        if (kind := _kind(answer)).startswith("multipart/"):
            raise NoSnapshot("answers with a stream now")
        body = answer.read(MAX_JPEG_BYTES + 1)
        missing = answer.length or 0  # announced and not sent
    if len(body) > MAX_JPEG_BYTES:
        raise NoSnapshot(f"the answer is larger than {MAX_JPEG_BYTES} bytes")
    if missing:
        raise NoSnapshot(f"the answer ends {missing} bytes too early", may_pass=True)
    if not is_jpeg(body):
        raise NoSnapshot(f"the answer ({kind or 'of no kind'}) is no JPEG", may_pass=True)
    return body


def poll(address: HttpAddress, fps: float, output: IO[bytes]) -> None:
    """Write `fps` pictures a second, or as many as the camera answers with, for ever.

    Raises:
        NoSnapshot: `MOST_FAILURES` requests in a row failed, or another would be of no use.
    """
    failures = MOST_FAILURES - 1  # the first request has no second try
    while True:
        began_s = time.monotonic()
        try:
            picture = fetch(address)
        except NoSnapshot as problem:
            failures += 1
            if failures >= MOST_FAILURES or not problem.may_pass:
                raise
            print(problem, file=sys.stderr, flush=True)  # noqa: T201 - its log
        else:
            failures = 0
            output.write(_BOUNDARY % len(picture) + picture + b"\r\n")
            output.flush()
        time.sleep(max(0.0, began_s + 1 / fps - time.monotonic()))


def _poll_into(address: HttpAddress, fps: float, program: list[str]) -> int:
    """Poll and write to a program until it ends; return its exit status."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with subprocess.Popen(program, stdin=subprocess.PIPE, env=environment) as taker:
        assert taker.stdin is not None
        with contextlib.suppress(BrokenPipeError), taker.stdin:
            poll(address, fps, taker.stdin)
    return taker.returncode


def main(arguments: list[str]) -> int:
    """Run `look` or `poll`; return the exit status."""
    try:
        match arguments:
            case ["look"]:
                print(look(from_environment()))  # noqa: T201 - its answer
            case ["poll", fps]:
                poll(from_environment(), float(fps), sys.stdout.buffer)
            case ["poll", fps, *program]:
                return _poll_into(from_environment(), float(fps), program)
            case _:
                print(__doc__, file=sys.stderr)  # noqa: T201
                return 2
    except NoSnapshot as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
