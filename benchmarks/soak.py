"""Does anything grow? Everything at once for an hour: memory, descriptors and threads of each service.

    python -m benchmarks.soak [--minutes 60] [--warm-minutes 10] [--sample-every-s 5] [--restart-every-s 300]
        [--camera-dies-after-s 20] [--json FILE]

A live camera and one whose program ends every 20 seconds; gallery pages and live pictures that are opened
and closed all the time; both brokers killed and started again every five minutes. What follows the warm-up is
cut into windows: flat is what has no window whose median lies more than 5 % above the first one's (of
descriptors and threads: or more than two). A median passes over the peaks that a page makes; a leak is in
every window, and highest in the last.
"""

from benchmarks.report.alone import alone
from tests.rigs.soak.verdict import add_options, measure

if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
