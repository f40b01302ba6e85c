"""A real RTSP server that is stopped, restarted, frozen, and changes its resolution."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.capture_rig import CaptureProcess, Detector
from tests.rtsp.server import Publisher, RtspServer, as_camera_sends, build
from tests.support import MosquittoServer, eventually

ROUNDS = int(os.environ.get("FACEFERRY_TEST_ROUNDS", "5"))
BACK_WITHIN_S = 5.0
STALL_TIMEOUT_S = 1.5
MAX_GROWTH_BYTES = 24 * 1024 * 1024


class Street:
    """An RTSP camera in all its moods."""

    def __init__(self, server: RtspServer, clips: list[Path]) -> None:
        self.server = server
        self._clips = clips
        self._publisher: Publisher | None = None

    def publish(self, clip: int = 0) -> None:
        self.withdraw()
        self._publisher = Publisher(self._clips[clip], self.server.url("street"))

    def withdraw(self) -> None:
        if self._publisher is not None:
            self._publisher.kill()
            self._publisher = None

    def close(self) -> None:
        self.withdraw()
        self.server.kill()


@pytest.fixture
def street(tmp_path: Path, clips: Path) -> Iterator[Street]:
    clip = clips / "classroom.mp4"
    server = RtspServer(build()).start()
    street = Street(server, [as_camera_sends(clip, tmp_path, size) for size in ("640x360", "320x180")])
    yield street
    street.close()


async def restart_server(street: Street, _round: int) -> None:
    street.server.kill()
    street.withdraw()
    await asyncio.sleep(0.7)
    street.server.start()
    street.publish()


async def restart_stream(street: Street, _round: int) -> None:
    street.withdraw()
    await asyncio.sleep(0.7)
    street.publish()


async def freeze_server(street: Street, _round: int) -> None:
    street.server.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STALL_TIMEOUT_S + 1.0)
    street.server.send_signal(signal.SIGCONT)


async def change_resolution(street: Street, number: int) -> None:
    street.publish(clip=1 if (number // 4) % 2 == 0 else 0)


DISTURBANCES = (restart_server, freeze_server, change_resolution, restart_stream)


@pytest.mark.timeout(60 + 12 * ROUNDS)
async def test_frames_flow_again_within_five_seconds_whatever_happened_to_the_server(
    street: Street,
    broker: MosquittoServer,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    street.publish()
    capture = CaptureProcess(
        tmp_path, broker.url, f"street={street.server.url('street')}", stall_timeout_s=STALL_TIMEOUT_S
    )
    try:
        async with Detector(broker.url) as detector:
            await eventually(lambda: detector.counts["street"] > 20, 20)
            resident_bytes = 0
            for number in range(ROUNDS):
                disturbance = DISTURBANCES[number % len(DISTURBANCES)]
                await disturbance(street, number)
                back_s = time.monotonic()
                count = detector.counts["street"]
                # Some frames may still come out of the pipes before the break; ten are a new flow.
                await eventually(detector.more_than("street", count + 9), 10)
                took_s = time.monotonic() - back_s
                record_testsuite_property(f"{number}.{disturbance.__name__}.back_after_s", round(took_s, 2))
                assert took_s < BACK_WITHIN_S, f"round {number}: {took_s:.1f} s"
                assert len(programs(capture)) == 1
                if number == min(3, ROUNDS - 1):
                    resident_bytes = capture.resident_bytes
            assert capture.resident_bytes - resident_bytes < MAX_GROWTH_BYTES
            assert {(640, 360), (320, 180)} <= set(detector.sizes["street"])
        assert capture.stop() == 0
        assert capture.leftovers() == []
    finally:
        capture.kill()


def programs(capture: CaptureProcess) -> list[psutil.Process]:
    """The camera programs that run, and zombies, which there must not be."""
    return capture.children()
