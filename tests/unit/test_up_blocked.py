"""What `up --once` says of a run that does not go on."""

import dataclasses
from pathlib import Path

import pytest

from services.up import blocked, once
from services.up.blocked import RunState, cause

FINE = RunState(
    services={
        "store": {"cloud": "ok", "store": "ok"},
        "forward": {"spool": "ok", "local_broker": "ok", "cloud_broker": "ok"},
        "detect": {"broker": "ok", "custody": "ok"},
        "capture": {"local/front": "ok"},
    },
    store="file:///faces",
    folder=Path("/state"),
    room_bytes=1 << 30,
    cameras={"front": "online"},
    has_frames=True,
)
FULL = "full: [Errno 28] No space left on device"
BUCKET = "s3://bucket/x"


def wrong(service: str, check: str, said: str) -> RunState:
    services = {**FINE.services, service: {**(FINE.services[service] or {}), check: said}}
    # Whoever waits for the one that is blocked says so, too.
    return dataclasses.replace(FINE, services={**services, "detect": {"custody": "full: 256 faces"}})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            wrong("store", "store", FULL),
            "file:///faces is full: make room there and run the same",
        ),
        (
            dataclasses.replace(wrong("store", "store", "forbidden: AccessDenied"), store=BUCKET),
            f"{BUCKET} takes no faces (forbidden: AccessDenied): docs/troubleshooting.md, 'What keeps the",
        ),
        (
            wrong("store", "store", "read_only: /faces"),
            "file:///faces takes no faces (read_only: /faces): may this user write there, and is it mounted?",
        ),
        (
            wrong("forward", "spool", "the disk is full"),
            "the disk is full that /state is on, where faces wait",
        ),
        (dataclasses.replace(FINE, room_bytes=9), "the disk is full that /state is on, where faces wait"),
        (
            wrong("forward", "spool", "the spool is at its budget"),
            "forward: spool: the spool is at its budget; detect: custody: full: 256 faces; FACEFERRY_SPOOL",
        ),
        (
            dataclasses.replace(FINE, services={**FINE.services, "detect": None}),
            "detect did not answer: the lines above say whether it ended, and why",
        ),
        (
            wrong("store", "cloud", "no connection to 127.0.0.1:9"),
            "store: cloud: no connection to 127.0.0.1:9",
        ),
        (
            dataclasses.replace(FINE, cameras={"front": "offline", "yard": "online"}),
            "no frames come: front is offline; the lines of capture above have its program's words",
        ),
        (dataclasses.replace(FINE, has_frames=False), "no frame was answered: the lines of detect above"),
        (FINE, "no service says why; on a slow machine --timeout waits for longer"),
    ],
)
def test_what_blocks_a_run_is_said_with_what_to_do(found: RunState, said: str) -> None:
    assert cause(found).startswith(said)
    assert "nothing moved" not in cause(found)


METRICS = """\
# TYPE faceferry_capture_state gauge
faceferry_capture_state{camera="front",faceferry_capture_state="online"} 0.0
faceferry_capture_state{camera="front",faceferry_capture_state="stalled"} 1.0
# TYPE faceferry_detect_detector_info gauge
faceferry_detect_detector_info{detector="haar",model=""} 1.0
# TYPE faceferry_forward_sights counter
faceferry_forward_sights_total 12.0
# TYPE faceferry_forward_wanted counter
faceferry_forward_wanted_total{why="first"} 3.0
faceferry_forward_wanted_total{why="better"} 4.0
"""


async def test_a_run_reads_its_services_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_port: int, page: str) -> str:
        return METRICS if page == "metrics" else '{"checks": {"broker": "ok"}}'

    monkeypatch.setattr(blocked, "_ask", answer)
    found = await blocked.state_of_run({"capture": 1}, "file:///faces", Path("/"), has_frames=True)
    assert found.cameras == {"front": "stalled"}
    assert await once.detector_of(1) == "haar"
    assert await once.sights_and_visits(1) == (12, 3)


@pytest.mark.parametrize("text", ["", "<html>no metrics</html>"])
async def test_a_service_that_gives_no_metrics_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    async def answer(_port: int, _page: str) -> str:
        return text

    monkeypatch.setattr(blocked, "_ask", answer)
    assert await once.detector_of(1) == ""
    assert await once.sights_and_visits(1) == (None, None)
