import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from services.detect.boxes import Floats
from services.detect.network import Batcher


class Device:
    """Doubles what it gets, one run at a time, and waits for `go` before each."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)

    def run(self, pictures: Floats) -> list[Floats]:
        self.started.release()
        assert self.go.acquire(timeout=60)
        self.batches.append(len(pictures))
        return [pictures * 2]


def picture(value: float, side: int = 2) -> Floats:
    return np.full((1, 3, side, side), value, np.float32)


def test_what_comes_while_the_device_is_busy_is_one_batch_and_each_gets_its_own() -> None:
    device = Device()
    with Batcher(device.run, most=16).running() as run, ThreadPoolExecutor(8) as pool:
        first = pool.submit(run, picture(0))
        assert device.started.acquire(timeout=60)
        others = [pool.submit(run, picture(value)) for value in range(1, 6)]
        while pool._work_queue.qsize():
            pass
        threading.Event().wait(0.05)
        device.go.release(10)
        assert [float(answer.result()[0][0, 0, 0, 0]) for answer in (first, *others)] == [0, 2, 4, 6, 8, 10]
        assert first.result()[0].shape == (1, 3, 2, 2)
    assert device.batches[0] == 1
    assert sum(device.batches) >= 6
    assert all(size & (size - 1) == 0 for size in device.batches), "padded to powers of two"


def test_sizes_are_never_mixed() -> None:
    device = Device()
    device.go.release(100)
    with Batcher(device.run, most=4).running() as run, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(run, picture(side, side)) for side in (2, 4, 2, 4, 8, 2)]
        assert [answer.result()[0].shape[3] for answer in answers] == [2, 4, 2, 4, 8, 2]


def test_a_fault_reaches_the_threads_that_wait_and_the_next_run_goes_on() -> None:
    def fail(pictures: Floats) -> list[Floats]:
        if pictures[0, 0, 0, 0] == 1:
            raise RuntimeError("out of memory")
        return [pictures]

    with Batcher(fail, most=4).running() as run:
        with pytest.raises(RuntimeError, match="out of memory"):
            run(picture(1))
        assert run(picture(2))[0].shape == (1, 3, 2, 2)
