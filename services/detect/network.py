"""Neural networks that find faces, in ONNX Runtime; `yunet` and `centerface` hold what differs."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import structlog
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from services.common.errors import SetupError
from services.detect import providers
from services.detect.boxes import Detections, Floats, padded, suppress
from services.detect.codec import BgrImage

Run = Callable[[Floats], list[Floats]]
"""Takes pictures (N, 3, H, W) float32, returns the outputs, each (N, ...) float32."""


class Batcher:
    """Combines pictures of several threads into one run of the network, for devices that gain from it.

    It never waits for a batch to fill: a batch holds the pictures that came while the device ran the one
    before. So a single camera has no extra delay, and many cameras fill the device. Batches are padded to
    powers of two, because each new shape costs the device a new plan.

    Args:
        run: the network; called from one thread only.
        most: the largest batch, in pictures.
    """

    def __init__(self, run: Run, most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: queue.SimpleQueue[tuple[Floats, Future[list[Floats]]] | None] = queue.SimpleQueue()

    @contextlib.contextmanager
    def running(self) -> Iterator[Run]:
        """Run the batches' thread; yield a function that any thread may call with a picture (1, 3, H, W).

        It blocks until its picture was run, and raises what the run raises.
        """
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


MAX_BATCH = 16
DOUBTFUL = 0.7
"""A box is doubtful, not a face, from this fraction of the least score on."""
_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Family:
    """What networks of one kind have in common.

    Attributes:
        kind: its name in settings and metrics.
        title: its name in messages to users.
        input_name: of the picture; TensorRT has to know it beforehand.
        outputs: their names, in the order in which `decode` takes them.
        is_rgb: whether the picture's planes are red, green, blue; else blue, green, red.
        decode: takes the outputs for one picture, the width of its canvas in pixels, and the least score;
            returns candidates in pixels of the canvas, unordered, several of which may be the same face.
        content: takes a model's file and returns what ONNX Runtime loads: the file's path, or its bytes,
            adapted. Raises OSError, or ValueError for a file that is no such model.
    """

    kind: str
    title: str
    input_name: str
    outputs: tuple[str, ...]
    is_rgb: bool
    decode: Callable[[list[Floats], int, float], Detections]
    content: Callable[[Path], str | bytes]


class Network:
    """Finds faces in pictures; may be called from several threads at once. See `open_network`.

    Attributes:
        kind: of its family.
        name: of its model.
        provider: the execution provider that it runs on.
        run: the network itself, without drawing or decoding.
    """

    def __init__(
        self, family: Family, name: str, provider: str, run: Run, *, threshold: float, most: int
    ) -> None:
        self.kind = family.kind
        self.name = name
        self.provider = provider
        self.run = run
        self._family = family
        self._threshold = threshold
        self._most = most
        self._local = threading.local()

    def detect(self, picture: BgrImage) -> Detections:
        """Return the faces in a picture, best first, in its pixels.

        Args:
            picture: (H, W, 3) uint8, BGR, at the size at which to look for faces; not modified.
        """
        pixels = self._canvas.draw(picture)
        outputs = [output[0] for output in self.run(pixels)]
        candidates = suppress(self._family.decode(outputs, pixels.shape[3], DOUBTFUL * self._threshold), 0)
        assert candidates.scores is not None
        count = int(np.count_nonzero(candidates.scores >= self._threshold))  # best first
        found = candidates.selected(np.arange(min(count, self._most or count)))
        return replace(found, doubtful=candidates.boxes[count:])

    @property
    def _canvas(self) -> "_Canvas":
        """The canvas of this thread."""
        canvas: _Canvas | None = getattr(self._local, "canvas", None)
        if canvas is None:
            canvas = self._local.canvas = _Canvas(is_rgb=self._family.is_rgb)
        return canvas


class _Canvas:
    """The network's input: one buffer that is used again for pictures of all sizes.

    A new buffer costs a page fault for each 4 KiB, which for a small part is more than the network costs.
    """

    def __init__(self, *, is_rgb: bool) -> None:
        self._order = slice(None, None, -1 if is_rgb else 1)
        self._floats = np.zeros(0, np.float32)
        self._bytes = np.zeros(0, np.uint8)

    def draw(self, picture: BgrImage) -> Floats:
        """Return a picture as the network takes it.

        Args:
            picture: (h, w, 3) uint8, BGR; not modified.

        Returns:
            (1, 3, H, W) float32, 0..255, BGR or RGB; H and W multiples of 32, black beside the picture. It
            is the canvas's own buffer, and valid until the next picture is drawn.
        """
        height, width = picture.shape[:2]
        high, wide = padded(height), padded(width)
        if self._floats.size < 3 * high * wide:
            self._floats = np.empty(3 * high * wide, np.float32)
            self._bytes = np.empty(3 * high * wide, np.uint8)
        # OpenCV takes the channels apart faster than numpy, numpy makes them floats faster than OpenCV.
        planes = self._bytes[: 3 * height * width].reshape(3, height, width)
        cv2.split(picture, list(planes[self._order]))
        pixels: Floats = self._floats[: 3 * high * wide].reshape(1, 3, high, wide)
        pixels[0, :, :height, :width] = planes
        pixels[0, :, height:] = 0
        pixels[0, :, :height, width:] = 0
        return pixels


@contextlib.contextmanager
def open_network(
    family: Family,
    model: Path,
    name: str,
    wanted: tuple[str, ...],
    cache: Path,
    *,
    threshold: float,
    most: int,
) -> Iterator[Network]:
    """Load a model of a family, for as long as the context lasts.

    Args:
        family: the model's.
        model: an ONNX file.
        name: of the model, for the faces' `detector` property.
        wanted: execution providers in order, see `providers.choose`.
        cache: a folder where providers may keep what they built.
        threshold: the least score of a face, 0..1.
        most: faces in a picture, the best first; 0 for all.

    Raises:
        SetupError: the file is no such model, or a provider is missing.
    """
    chosen = providers.choose(wanted, ort.get_available_providers())
    is_asked_for = wanted != ("auto",)
    session, provider = _open_session(family, model, chosen, cache, is_asked_for=is_asked_for)
    _check_model(session, family, model)

    def run(pictures: Floats) -> list[Floats]:
        outputs: list[Floats] = session.run(family.outputs, {input_name: pictures})
        return outputs

    input_name = session.get_inputs()[0].name
    with contextlib.ExitStack() as stack:
        # A CPU gains nothing from batches: each thread runs its own picture on one core.
        runner = run if provider == "cpu" else stack.enter_context(Batcher(run, MAX_BATCH).running())
        yield Network(family, name, provider, runner, threshold=threshold, most=most)


def _open_session(
    family: Family, model: Path, chosen: list[str], cache: Path, *, is_asked_for: bool
) -> tuple[ort.InferenceSession, str]:
    for name in chosen:
        try:
            session = _session(family, model, chosen[chosen.index(name) :], cache)
            providers.check_in_use(name, session.get_providers())
        except SetupError as error:
            if is_asked_for or name == chosen[-1]:
                raise
            log.warning("detect.provider_unusable", provider=name, problem=str(error))
        else:
            return session, name
    raise SetupError("this ONNX Runtime has no execution provider that Faceferry knows")


def _session(family: Family, model: Path, names: list[str], cache: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    chosen = providers.with_options(names, cache, family.input_name, MAX_BATCH)
    try:
        return ort.InferenceSession(family.content(model), options, providers=chosen)
    except (OSError, ValueError, *_LOAD_ERRORS) as error:
        raise SetupError(f"{model} cannot be loaded: {str(error).splitlines()[0][:200]}") from error


def _check_model(session: Any, family: Family, model: Path) -> None:
    inputs, outputs = session.get_inputs(), {output.name for output in session.get_outputs()}
    if len(inputs) != 1 or not outputs.issuperset(family.outputs):
        raise SetupError(f"{model} is no model of the {family.title} family: its outputs have other names")
    if any(isinstance(side, int) for side in inputs[0].shape[2:]):
        raise SetupError(f"{model} takes one size only: a model with dynamic height and width is needed")
