import platform
import subprocess
import sys

import pytest

SCRIPT = """
import re, sys
from services.gallery.service import return_free_memory

def own_kb():
    return int(re.search(r"RssAnon:\\s*(\\d+)", open("/proc/self/status").read())[1])

if sys.argv[1] == "given-back":
    return_free_memory()
large = b"x" * 16_000_000
del large
before = own_kb()
pages = [b"x" * 100_000 for _ in range(100)]
del pages
print(own_kb() - before)
"""


def kept_kb(how: str) -> int:
    """Return how much a process keeps of 10 MB that are free again."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's way of keeping memory")
def test_what_pages_took_goes_back_to_the_system() -> None:
    assert kept_kb("as it is") > 5_000
    assert kept_kb("given-back") < 1_000
