"""Sees which code runs: for claims about the modules that something crosses."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def traced(note: Callable[[FrameType, str, object], None]) -> Iterator[None]:
    """Have `note` called for each call and return, in this thread and in those that it starts meanwhile."""
    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
