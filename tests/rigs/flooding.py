"""A device that publishes as fast as a broker reads, in a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def flooding(port: int, device: str, *options: str) -> Iterator[Callable[[], int]]:
    """Flood a broker on loopback; yields what says how many messages it has read so far.

    Args:
        port: the broker's.
        device: under whose name.
        options: of `tests.flood`.
    """
    with tempfile.NamedTemporaryFile() as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.flood", str(port), device, *options],
            stdin=subprocess.DEVNULL,
            stdout=told,
        )
        try:
            yield lambda: int((Path(told.name).read_text().split() or ["0"])[-1])
            assert process.poll() is None, "the flood has ended by itself"
        finally:
            process.kill()
            process.wait()
