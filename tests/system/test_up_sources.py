"""`faceferry up` with sources that are turned, incomplete, oddly named or single pictures."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.capture.source.ffmpeg import find_ffmpeg
from services.common.images.jpeg import with_orientation
from tests.conftest import skip
from tests.support import SHARED
from tests.webcam import serving

CLIP_FACES = 4
"""In each frame of classroom.mp4."""
TO_STORED: Mapping[int, Callable[[Any], Any]] = {
    1: lambda picture: picture,
    2: lambda picture: cv2.flip(picture, 1),
    3: lambda picture: cv2.rotate(picture, cv2.ROTATE_180),
    4: lambda picture: cv2.flip(picture, 0),
    5: cv2.transpose,
    6: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
    7: lambda picture: cv2.rotate(cv2.transpose(picture), cv2.ROTATE_180),
    8: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
}
"""By Exif's orientation: how an upright picture has to be stored."""
MATRICES = {
    "quarter": (0, 1, 0, -1, 0, 0, 0, 0, 1),
    "half": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "mirror": (-1, 0, 0, 0, 1, 0, 0, 0, 1),
}
STORED_FOR = {"quarter": 6, "half": 3, "mirror": 2}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    models = Path(os.environ.get("FACEFERRY_MODEL_DIR", SHARED / "models"))
    if not (models / "yunet_n_dynamic.onnx").exists():
        skip("no YuNet model: name its folder in FACEFERRY_MODEL_DIR")
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "FACEFERRY_MODEL_DIR": str(models.absolute())}
    code = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return {**os.environ, **state, **code, "FACEFERRY_DEVICE": "edge"}


def up(*words: object) -> list[str]:
    return [sys.executable, "-m", "services.cli", "up", *map(str, words)]


def play(
    environment: dict[str, str], folder: Path, sources: Sequence[str], at: Path | None = None
) -> dict[str, list[Any]]:
    """Play sources once into a folder; return what is known about each camera's faces."""
    words: list[str] = []
    for source in sources:
        words += ["--source", source]
    command = up(*words, "--once", "--json", "--store", folder, "--timeout", "40")
    done = subprocess.run(command, env=environment, cwd=at, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found: dict[str, list[Any]] = {source.partition("=")[0]: [] for source in sources if "=" in source}
    for path in sorted(folder.rglob("camera=*/*.json")):
        camera = path.parent.name.removeprefix("camera=")
        found.setdefault(camera, []).append(json.loads(path.read_text())["metadata"])
    return found


@pytest.fixture
def picture(clips: Path, tmp_path: Path) -> Any:
    """A frame with four faces: (H, W, 3) uint8, BGR."""
    path = tmp_path / "frame.png"
    ffmpeg(f"-i {clips / 'classroom.mp4'} -frames:v 1 {path}")
    return cv2.imread(str(path))


def ffmpeg(words: str) -> None:
    subprocess.run([find_ffmpeg(), "-v", "error", "-y", *words.split()], check=True, timeout=60)


def encoded(picture: Any) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def boxes(faces: list[Any]) -> list[list[int]]:
    return sorted([int(side) for side in face["box"].split(",")] for face in faces)


def check_alike(found: dict[str, list[Any]], reference: str, frames: int = 1) -> None:
    """Check that all cameras have seen the reference's faces, in the same places of a picture of its size."""
    size = found[reference][0]["framesize"]
    for camera, faces in found.items():
        assert len(faces) == len(found[reference]) * (1 if camera == reference else frames), camera
        assert {face["framesize"] for face in faces} == {size}, camera
        if frames == 1:
            apart = np.abs(np.array(boxes(faces)) - np.array(boxes(found[reference])))
            assert apart.max() <= 8, camera


def test_single_pictures_are_upright_whatever_their_orientation(
    environment: dict[str, str], picture: Any, tmp_path: Path
) -> None:
    sources = []
    for turn, to_stored in TO_STORED.items():
        path = tmp_path / f"{turn}.jpg"
        path.write_bytes(with_orientation(encoded(to_stored(picture)), turn))
        sources.append(f"turn-{turn}={path}")
    found = play(environment, tmp_path / "faces", sources)
    assert len(found["turn-1"]) == CLIP_FACES
    check_alike(found, "turn-1")


def test_motion_jpeg_is_upright_whatever_its_container_says(
    environment: dict[str, str], picture: Any, tmp_path: Path
) -> None:
    upright = tmp_path / "upright.jpg"
    upright.write_bytes(encoded(picture))
    sources = [f"upright={upright}"]
    for name, matrix in MATRICES.items():
        frames = tmp_path / name
        frames.mkdir()
        for number in range(3):
            stored = TO_STORED[STORED_FOR[name]](picture)
            (frames / f"{number}.jpg").write_bytes(encoded(stored))
        movie = tmp_path / f"{name}.mov"
        ffmpeg(f"-framerate 5 -i {frames}/%d.jpg -c copy {movie}")
        movie.write_bytes(turned(movie.read_bytes(), matrix))
        sources.append(f"{name}={movie}")
    check_alike(play(environment, tmp_path / "faces", sources), "upright", frames=3)


def turned(movie: bytes, matrix: Sequence[int]) -> bytes:
    """Write a matrix into a movie's track header; QuickTime File Format, "Track header atom"."""
    place = movie.index(b"tkhd") + 4 + 40
    units = (16, 16, 30) * 3
    values = struct.pack(">9i", *(value << unit for value, unit in zip(matrix, units, strict=True)))
    return movie[:place] + values + movie[place + 36 :]


def test_motion_jpeg_that_is_cut_and_padded_loses_no_frame(
    environment: dict[str, str], picture: Any, tmp_path: Path
) -> None:
    jpeg = encoded(picture)
    upright, stream = tmp_path / "upright.jpg", tmp_path / "cut.mjpeg"
    upright.write_bytes(jpeg)
    # No end mark; padding; garbage; and the last one lacks what the disk had no time for.
    stream.write_bytes(jpeg + jpeg[:-2] + jpeg + bytes(64) + jpeg + b"garbage" + jpeg[: -len(jpeg) // 50])
    found = play(environment, tmp_path / "faces", [f"upright={upright}", f"cut={stream}"])
    check_alike(found, "upright", frames=5)


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"http:a=b 50%#?\n.mp4"])
def test_a_file_of_any_name_is_played(
    environment: dict[str, str], clips: Path, tmp_path: Path, name: bytes
) -> None:
    path = tmp_path / os.fsdecode(name)
    shutil.copy(clips / "classroom.mp4", path)
    found = play(environment, tmp_path / "faces", [path.name], at=tmp_path)
    assert len(found["camera"]) == 45 * CLIP_FACES


def test_an_old_ffmpeg_on_the_path_is_passed_over_and_one_that_is_named_is_refused_at_once(
    environment: dict[str, str], clips: Path, tmp_path: Path
) -> None:
    old = tmp_path / "bin" / "ffmpeg"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright'\n")
    old.chmod(0o755)
    environment |= {"PATH": f"{old.parent}:{environment['PATH']}"}
    found = play(environment, tmp_path / "faces", [str(clips / "classroom.mp4")])
    assert len(found["camera"]) == 45 * CLIP_FACES
    began_s = time.monotonic()
    done = subprocess.run(
        up("--source", clips / "classroom.mp4", "--once", "--store", tmp_path / "faces"),
        env={**environment, "FACEFERRY_FFMPEG": str(old)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert time.monotonic() - began_s < 20
    problem = f"FACEFERRY_FFMPEG: {old} is 4.4.2-0ubuntu0.22.04.1, too old; ffmpeg 5.1 or newer is wanted"
    assert done.stderr.splitlines() == [f"faceferry: {problem}"]


def test_faces_come_from_a_snapshot_address_and_its_camera_stays_online(
    environment: dict[str, str], picture: Any, tmp_path: Path
) -> None:
    store = tmp_path / "faces"
    with serving(encoded(picture)) as webcam, (tmp_path / "log").open("wb") as log:
        words = up("--source", webcam.url("/snap.jpg?channel=1&fps=5"), "--store", store)
        running = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        deadline_s = time.monotonic() + 60
        while len(list(store.rglob("*.jpg"))) < 5 * CLIP_FACES and time.monotonic() < deadline_s:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        running.wait(30)
        assert webcam.asked["/snap.jpg?channel=1"] >= 5
    said = (tmp_path / "log").read_text()
    assert len(list(store.rglob("*.jpg"))) >= 5 * CLIP_FACES, said
    assert said.count("capture.camera_online") == 1
    assert "capture.program_ended" not in said
