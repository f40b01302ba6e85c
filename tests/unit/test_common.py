import asyncio
import json
import subprocess
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.common.runtime.concurrency import Backoff, Gatherer
from services.common.runtime.metrics import Drops


def test_waits_double_up_to_a_bound_and_start_over() -> None:
    backoff = Backoff(1.0, 8.0)
    for ceiling_s in (1, 2, 4, 8, 8, 8):
        assert ceiling_s / 2 <= backoff.next_s() <= ceiling_s
    backoff.reset()
    assert backoff.next_s() <= 1


async def test_a_batch_goes_when_it_is_full_or_has_waited() -> None:
    flushed: list[list[int]] = []
    batch = Gatherer(flushed.append, most=3, delay_s=0.01)
    for number in range(4):
        batch.add(number)
    assert flushed == [[0, 1, 2]]
    await asyncio.sleep(0.1)
    assert flushed == [[0, 1, 2], [3]]
    batch.flush()
    assert len(flushed) == 2


def test_drops_are_counted_by_reason_and_said_at_the_first() -> None:
    registry = CollectorRegistry()
    drops = Drops(Counter("x_total", "x", ["camera", "reason"], registry=registry), "x.dropped")
    with structlog.testing.capture_logs() as logs:
        for _ in range(1_500):
            drops.count("stale", "front", age_s=3)
        drops.count("full", "front")
    assert registry.get_sample_value("x_total", {"camera": "front", "reason": "stale"}) == 1_500
    assert [(line["reason"], line["so_far"]) for line in logs] == [
        ("stale", 1),
        ("stale", 1_001),
        ("full", 1),
    ]
    assert drops.counts == {"stale": 1_500, "full": 1}


SERVICE = """
import asyncio, sys
from services.common.runtime import lifecycle
from services.common.errors import SetupError
from services.common.runtime.logging import configure_logging
configure_logging("example", "info", "json")

async def wait():
    try:
        print("waiting", flush=True)
        await asyncio.sleep(60)
    finally:
        if "stubborn" in sys.argv:
            await asyncio.sleep(60)
        print("goodbye", flush=True)

async def crash():
    raise RuntimeError("broken")

async def unset():
    async with asyncio.TaskGroup():
        raise SetupError("name a camera")

sys.exit(lifecycle.run({"wait": wait, "crash": crash, "unset": unset, "stubborn": wait}[sys.argv[1]]()))
"""


def start(how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_signal_lets_a_service_say_goodbye() -> None:
    with start("wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        output, log = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "goodbye\n")
    assert json.loads(log)["event"] == "service.stopping"


def test_a_second_signal_ends_it_at_once() -> None:
    with start("stubborn") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.terminate()
        process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 130


def test_a_crash_is_logged_whole_with_status_1() -> None:
    with start("crash") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    event = json.loads(log)
    assert event["event"] == "service.crashed"
    assert "RuntimeError: broken" in event["exception"]


def test_a_setup_error_is_one_line_with_status_2() -> None:
    with start("unset") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert json.loads(log)["problem"] == "name a camera"
    assert "Traceback" not in log
