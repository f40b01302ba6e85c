"""Which of ONNX Runtime's execution providers to use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from services.common.errors import SetupError

ProviderName = Literal["auto", "tensorrt", "cuda", "cpu"]

RUNTIME_NAMES = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_AUTOMATIC = ("cuda", "cpu")
"""TensorRT is left out: at the first start it builds an engine for minutes, so it has to be asked for."""


def choose(wanted: Sequence[str], available: Sequence[str]) -> list[str]:
    """Return the providers to use, best first.

    Args:
        wanted: our names, in order of preference; `auto` alone for the best there is.
        available: ONNX Runtime's names of those that it was built with.

    Raises:
        SetupError: one of `wanted` is not available. It is never replaced silently.
    """
    if tuple(wanted) == ("auto",):
        return [name for name in _AUTOMATIC if RUNTIME_NAMES[name] in available]
    for name in wanted:
        if name not in RUNTIME_NAMES:
            raise SetupError(f"FACEFERRY_PROVIDERS: {name!r} does not go with other providers")
        if RUNTIME_NAMES[name] not in available:
            raise SetupError(
                f"FACEFERRY_PROVIDERS asks for {name!r}, which this ONNX Runtime does not have "
                f"(it has {', '.join(available)}): install onnxruntime-gpu, or leave {name!r} out"
            )
    return list(wanted)


def check_in_use(wanted: str, in_use: Sequence[str]) -> None:
    """Check that the session runs on the provider that was put first.

    ONNX Runtime goes on without a provider whose libraries it cannot load, and only logs it.

    Raises:
        SetupError: it runs on another provider.
    """
    if not in_use or in_use[0] != RUNTIME_NAMES[wanted]:
        raise SetupError(
            f"the provider {wanted!r} could not be started (its CUDA, cuDNN or TensorRT libraries are "
            f"missing or do not fit); ONNX Runtime would use {', '.join(in_use) or 'none'}"
        )


def with_options(
    names: Sequence[str], cache: Path, input_name: str, max_batch: int
) -> list[tuple[str, dict[str, Any]]]:
    """Return the providers as ONNX Runtime takes them.

    Args:
        names: ours, best first.
        cache: a folder for built engines.
        input_name: of the network's picture.
        max_batch: the most pictures in one run.
    """
    options: dict[str, dict[str, Any]] = {
        # An engine for a range of shapes, built once and kept.
        "tensorrt": {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": True,
            "trt_profile_min_shapes": f"{input_name}:1x3x32x32",
            "trt_profile_opt_shapes": f"{input_name}:{max_batch}x3x384x640",
            "trt_profile_max_shapes": f"{input_name}:{max_batch}x3x2176x3840",
        },
        # An exhaustive search for the fastest convolution would be repeated at every new shape.
        "cuda": {"cudnn_conv_algo_search": "HEURISTIC"},
        "cpu": {},
    }
    return [(RUNTIME_NAMES[name], options[name]) for name in names]
