import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.common.settings import load
from services.detect import models
from services.detect.detectors import open_detector
from services.detect.models import MODELS, Model, ModelUnavailable
from services.detect.settings import DetectSettings
from tests.conftest import skip
from tests.detect_clips import MODELS as HERE

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


@pytest.mark.usefixtures("cache")
def test_auto_falls_back_to_haar_and_says_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = 503
    with open_detector(settings(monkeypatch, "auto")) as detector:
        assert (detector.kind, detector.name, detector.provider) == ("haar", "haar", "cpu")
    captured = capsys.readouterr()
    assert "detect.fallback_to_haar" in captured.out + captured.err
    assert "FACEFERRY_MODEL_DIR" in captured.out + captured.err


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
    path = HERE / MODELS[name].file_name
    if not path.is_file():
        skip(f"{path.name} is not on this machine")
    assert models.verify(MODELS[name], path) == "ok"
    assert path.stat().st_size == MODELS[name].size_bytes


def test_list_tells_the_state_of_each(cache: Path, tmp_path: Path) -> None:
    (tmp_path / MODELS["yunet_s"].file_name).write_bytes(b"corrupted")
    states = {found.model.name: found.state for found in models.list_models(tmp_path)}
    assert states == {"yunet_n": "missing", "yunet_s": "corrupted"}
    assert not cache.exists()
