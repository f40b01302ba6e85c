import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np

from services.detect.boxes import Floats

Run = Callable[[Floats], list[Floats]]
"""Takes pictures (N, 3, H, W), returns the outputs, each (N, ...)."""


class Batcher:
    """Puts pictures of several threads into one run of the network, for devices that gain from it.

    It never waits for a batch to fill: a batch is what has come in while the device was busy with the one
    before. So a lone camera has no more delay than without, and many cameras fill the device. Batches are
    padded to powers of two, for every new shape costs the device a new plan.

    Args:
        run: the network; called from one thread only.
        most: pictures in a batch at most.
    """

    def __init__(self, run: Run, most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: queue.SimpleQueue[tuple[Floats, Future[list[Floats]]] | None] = queue.SimpleQueue()

    @contextlib.contextmanager
    def running(self) -> Iterator[Run]:
        """Run the batches' thread; yields what runs one picture (1, 3, H, W), from any thread."""
        thread = threading.Thread(target=self._work, name="detect.batches", daemon=True)
        thread.start()
        try:
            yield self._submit
        finally:
            self._waiting.put(None)
            thread.join()

    def _submit(self, picture: Floats) -> list[Floats]:
        future: Future[list[Floats]] = Future()
        self._waiting.put((picture, future))
        return future.result()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batches: dict[tuple[int, ...], list[tuple[Floats, Future[list[Floats]]]]] = {}
            entries = [self._waiting.get(), *self._drain()]
            for entry in entries:
                if entry is None:
                    is_open = False
                else:
                    batches.setdefault(entry[0].shape, []).append(entry)
            for batch in batches.values():
                self._run_batch(batch)

    def _drain(self) -> Iterator[tuple[Floats, Future[list[Floats]]] | None]:
        with contextlib.suppress(queue.Empty):
            for _ in range(self._most - 1):
                yield self._waiting.get_nowait()

    def _run_batch(self, batch: list[tuple[Floats, Future[list[Floats]]]]) -> None:
        pictures = [picture for picture, _ in batch]
        missing = (1 << (len(pictures) - 1).bit_length()) - len(pictures)
        pictures += [np.zeros_like(pictures[0])] * missing
        try:
            outputs = self._run(np.concatenate(pictures))
        except BaseException as error:  # noqa: BLE001 - it belongs to the threads that wait, and goes there
            for _, future in batch:
                future.set_exception(error)
            return
        for index, (_, future) in enumerate(batch):
            future.set_result([output[index : index + 1] for output in outputs])
