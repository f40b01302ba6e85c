"""How the C library keeps memory that is free again."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD = -1
_MOST_KEPT_BYTES = 128 * 1024


def give_back_what_is_free() -> None:
    """Have memory that is free go back to the system, as far as the C library (glibc) can do that.

    glibc begins with giving back what lies free beyond 128 KiB, and raises that each time that something
    larger is freed. Pages and images are larger; so a gallery that is looked at kept 8 MB more after some
    thousand pages than after the first, in steps that look like a leak. Saying the number ends the raising.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
