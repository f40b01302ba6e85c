"""Which detector is used, and why: the one that is set, or the best whose model can be had."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from services.common.errors import SetupError
from services.detect.models import MODELS, YUNETS, look_for

DetectorName = Literal["auto", "yunet", "centerface", "haar"]
DETECTORS: tuple[str, ...] = get_args(DetectorName)
CENTERFACE = "centerface"
HAAR = "haar"
_TRIED = "the next start tries to download it"
_FAILING = {
    1: ", and fails if that fails",
    2: f"; failing that {CENTERFACE}, by pip, and failing that {HAAR}",
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """The detector that the next start uses, as far as that is known without a download.

    Attributes:
        detector: the name of its model, or `haar`.
        why: it is used, in words.
        is_best: whether it is the first choice, not a fallback.
    """

    detector: str
    why: str
    is_best: bool


def candidates(detector: str, model: str) -> tuple[str, ...]:
    """Return the models to try, the best first; empty for Haar, which needs none.

    Args:
        detector: the value of `FACEFERRY_DETECTOR`.
        model: the value of `FACEFERRY_MODEL`: one of YuNet's, or the path of one.

    Raises:
        SetupError: the model is another detector's.
    """
    if model in MODELS and MODELS[model].kind != "yunet":
        raise SetupError(
            f"FACEFERRY_MODEL: {model} is not one of YuNet's ({', '.join(YUNETS)}); "
            f"FACEFERRY_DETECTOR={model} asks for it"
        )
    of_each = {"auto": (model, CENTERFACE), "yunet": (model,), CENTERFACE: (CENTERFACE,), HAAR: ()}
    return of_each[detector]


def forecast(environment: Mapping[str, str]) -> Forecast:
    """Return which detector the next start uses on this machine.

    Args:
        environment: with `FACEFERRY_DETECTOR`, `_MODEL` and `_MODEL_DIR`, as far as they are set.

    Raises:
        SetupError: they name a detector or model that does not exist.
    """
    detector = environment.get("FACEFERRY_DETECTOR") or "auto"
    if detector not in DETECTORS:
        raise SetupError(f"FACEFERRY_DETECTOR: {detector[:200]!r} is none of {', '.join(DETECTORS)}")
    folder = environment.get("FACEFERRY_MODEL_DIR")
    names = candidates(detector, environment.get("FACEFERRY_MODEL") or "yunet_n")
    for place, name in enumerate(names):
        path = look_for(name, Path(folder) if folder else None)
        if path is not None:
            missing = f", and {names[0]}'s is not here: {_TRIED}" if place else ""
            return Forecast(name, f"its model is {path}{missing}", is_best=place == 0)
    if not names:
        return Forecast(HAAR, "FACEFERRY_DETECTOR asks for it; it needs no model", is_best=True)
    return Forecast(names[0], f"its model is not here: {_TRIED}{_FAILING[len(names)]}", is_best=False)
