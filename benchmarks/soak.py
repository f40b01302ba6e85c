"""Do memory, descriptors or threads of a service grow? Everything at once for an hour.

    python -m benchmarks.soak [--minutes 60] [--warm-minutes 10] [--sample-every-s 5] [--restart-every-s 300]
        [--camera-dies-after-s 20] [--json FILE]

A live camera and one whose program ends every 20 seconds; gallery pages and live pictures that are opened and
closed all the time; both brokers killed and started again every five minutes. The time after the warm-up is
cut into windows: a series is flat if no window's median is more than 5 % above the first one's (for
descriptors and threads: or more than two). A median ignores the peaks that a page makes; a leak is in every
window, and highest in the last.
"""

from benchmarks.report.alone import alone
from tests.rigs.soak.verdict import add_options, measure

if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
