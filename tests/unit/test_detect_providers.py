from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from services.common.errors import SetupError
from services.detect import providers
from services.detect.centerface import CENTERFACE
from services.detect.network import Network, open_network
from services.detect.yunet import YUNET
from tests.conftest import skip
from tests.detect_clips import MODELS, centerface_model

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


def test_order_of_preference_is_kept() -> None:
    assert providers.choose(("tensorrt", "cuda", "cpu"), [CPU, CUDA, TENSORRT]) == ["tensorrt", "cuda", "cpu"]


def test_provider_that_is_asked_for_and_absent_is_an_error() -> None:
    with pytest.raises(SetupError, match=r"'cuda'.*onnxruntime-gpu"):
        providers.choose(("cuda", "cpu"), [CPU])


def test_auto_takes_cuda_where_it_is_and_never_tensorrt() -> None:
    assert providers.choose(("auto",), [TENSORRT, CUDA, CPU]) == ["cuda", "cpu"]
    assert providers.choose(("auto",), ["AzureExecutionProvider", CPU]) == ["cpu"]


def test_runtime_that_went_on_without_the_provider_is_an_error() -> None:
    providers.check_in_use("cuda", [CUDA, CPU])
    with pytest.raises(SetupError, match="could not be started"):
        providers.check_in_use("cuda", [CPU])


class FakeSession:
    """The real network on the CPU that says it runs on what it was told to, if that loads."""

    loadable: tuple[str, ...] = (CPU, CUDA, TENSORRT)
    batches: list[int]

    def __init__(
        self, model: str | bytes, options: ort.SessionOptions, providers: list[tuple[str, Any]]
    ) -> None:
        self._real = _InferenceSession(model, options, providers=[CPU])
        self._names = [name for name, _ in providers if name in self.loadable]
        self.get_inputs, self.get_outputs = self._real.get_inputs, self._real.get_outputs

    def get_providers(self) -> list[str]:
        return self._names

    def run(self, names: list[str], feed: dict[str, Any]) -> Any:
        self.batches.append(len(next(iter(feed.values()))))
        return self._real.run(names, feed)


_InferenceSession = ort.InferenceSession


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """An ONNX Runtime that claims to have a GPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "loadable", (CPU, CUDA, TENSORRT))
    monkeypatch.setattr(FakeSession, "batches", [], raising=False)
    return FakeSession


@contextmanager
def opened(*wanted: str) -> Iterator[Network]:
    model = MODELS / "yunet_n_dynamic.onnx"
    if not model.is_file():
        skip("the YuNet model is not on this machine")
    with open_network(YUNET, model, "yunet_n", wanted, Path("cache"), threshold=0.7, most=0) as detector:
        yield detector


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("wanted", "in_use"),
    [(("tensorrt", "cuda", "cpu"), "tensorrt"), (("cuda",), "cuda"), (("auto",), "cuda")],
)
def test_first_provider_is_the_one_in_use(wanted: tuple[str, ...], in_use: str) -> None:
    with opened(*wanted) as detector:
        assert detector.provider == in_use


def test_gpu_that_does_not_load_is_an_error_if_asked_for(gpu: type[FakeSession]) -> None:
    gpu.loadable = (CPU,)
    with pytest.raises(SetupError, match="cuda"), opened("cuda", "cpu"):
        pass


def test_gpu_that_does_not_load_is_passed_over_by_auto(gpu: type[FakeSession]) -> None:
    gpu.loadable = (CPU,)
    with opened("auto") as detector:
        assert detector.provider == "cpu"


@pytest.mark.usefixtures("gpu")
def test_centerface_finds_the_same_in_batches() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    boxes = []
    for wanted in ("cpu", "cuda"):
        with open_network(
            CENTERFACE, centerface_model(), "centerface", (wanted,), Path("cache"), threshold=0.01, most=0
        ) as detector:
            boxes.append(detector.detect(picture).boxes)
    alone, in_a_batch = boxes
    assert len(alone) > 0
    assert np.array_equal(alone, in_a_batch)


def test_options_name_the_range_of_shapes() -> None:
    [(name, options), *_] = providers.with_options(["tensorrt", "cuda"], Path("/cache"), "input.1", 16)
    assert name == TENSORRT
    assert options["trt_engine_cache_path"] == "/cache"
    assert options["trt_profile_max_shapes"].startswith("input.1:16x3x")


def test_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no model")
    with (
        pytest.raises(SetupError, match=r"wrong\.onnx cannot be loaded"),
        open_network(YUNET, wrong, "wrong", ("cpu",), tmp_path, threshold=0.7, most=0),
    ):
        pass


def test_model_of_one_size_is_refused() -> None:
    fixed = MODELS / "yunet_n_640_640.onnx"
    if not fixed.is_file():
        skip("the reference model is not on this machine")
    with (
        pytest.raises(SetupError, match="one size only"),
        open_network(YUNET, fixed, "fixed", ("cpu",), Path("cache"), threshold=0.7, most=0),
    ):
        pass
