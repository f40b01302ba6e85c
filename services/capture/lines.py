from collections.abc import AsyncIterator

from services.capture.child import Pipe

_CHUNK_BYTES = 64 * 1024


async def read_lines(pipe: Pipe) -> AsyncIterator[str]:
    """Yield what a program writes, line by line; of a line without an end, the end."""
    chunk, rest = bytearray(_CHUNK_BYTES), b""
    while count := await pipe.read_into(memoryview(chunk)):
        *lines, rest = (rest + chunk[:count]).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        rest = rest[-_CHUNK_BYTES:]
    if rest:
        yield rest.decode(errors="replace")
