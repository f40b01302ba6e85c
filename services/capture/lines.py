import asyncio
from collections.abc import Callable

from services.capture.child import Child, Pipe

_CHUNK_BYTES = 16 * 1024
_MAX_LINE_BYTES = 64 * 1024


async def listen(
    child: Child, on_output: Callable[[str], None], on_error: Callable[[str], None], silence_s: float
) -> None:
    """Read what a program writes and what it says, to the end of both, and both at once.

    To read the one to its end and then the other lets a program wait for ever that has filled the other's
    pipe.

    Args:
        child: the program.
        on_output: gets each line of its standard output.
        on_error: gets each line of its standard error.
        silence_s: how long it may take from one line of its output to the next, or to the first.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(silence_s) as patience, asyncio.TaskGroup() as tasks:
        tasks.create_task(_hand_on(child.errors, on_error, lambda: None))
        await _hand_on(child.output, on_output, lambda: patience.reschedule(loop.time() + silence_s))


async def _hand_on(pipe: Pipe, take: Callable[[str], None], note_life: Callable[[], None]) -> None:
    """Hand on each line that comes; of a line without an end, the end."""
    chunk, rest = bytearray(_CHUNK_BYTES), b""
    while count := await pipe.read_into(memoryview(chunk)):
        *lines, rest = (rest + chunk[:count]).split(b"\n")
        for line in lines:
            take(line.decode(errors="replace"))
        rest = rest[-_MAX_LINE_BYTES:]
        note_life()
        # One that never stops talking must not keep everybody else from their turn.
        await asyncio.sleep(0)
    if rest:
        take(rest.decode(errors="replace"))
