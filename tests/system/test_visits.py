"""A few good pictures of each visit, through the whole pipeline."""

import asyncio
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.frames import Done, Frame, decode_done, encode_frame
from services.common.wire.seen import question_about
from services.common.wire.topics import Source
from services.detect.detectors import open_detector
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from services.forward.visits.camera_visits import CameraVisits, VisitRules
from services.forward.visits.quality import quality
from tests.conftest import skip
from tests.detect_clips import clip_jpegs, frame
from tests.rigs.asked import watch
from tests.support import SHARED, ServiceProcess, eventually, running_broker

WIDTH = 480
"""Of the smaller clips, in pixels."""
VISITS = {
    "book.mkv": 1,
    "classroom.mp4": 4,
    "face-demographics-walking-and-pause.mp4": 3,
    "head-pose-face-detection-female-and-male.mp4": 2,
    "empty-room.mp4": 0,
}
"""How many people each clip shows; all of them stay in view."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    models = Path(os.environ.get("FACEFERRY_MODEL_DIR", SHARED / "models"))
    if not (models / "yunet_n_dynamic.onnx").exists():
        skip("no YuNet model: name its folder in FACEFERRY_MODEL_DIR")
    return {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "FACEFERRY_MODEL_DIR": str(models),
        "FACEFERRY_DEVICE": "edge",
    }


def play(environment: Mapping[str, str], store: Path, clip: Path, keep: str) -> dict[str, Any]:
    """Run `up --once` to its end; return its summary."""
    arguments = ["--source", str(clip), "--once", "--json", "--store", str(store), "--keep", keep]
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "up", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def about(store: Path) -> dict[str, dict[str, str]]:
    """What is stored of each face, by its key."""
    return {
        str(path.relative_to(store)): json.loads(path.read_text())["metadata"]
        for path in store.rglob("dt=*/**/*.json")
    }


@pytest.mark.parametrize("clip", VISITS)
def test_each_person_of_a_clip_is_one_visit_with_a_few_pictures(
    tmp_path: Path, environment: dict[str, str], clips: Path, clip: str
) -> None:
    store = tmp_path / "faces"
    summary = play(environment, store, clips / clip, "visits")
    shots = defaultdict(list)
    for face in about(store).values():
        shots[face["visit"]].append(int(face["shot"]))
        assert face["why"] in (["first"] if face["shot"] == "1" else ["better", "changed", "back"])
        assert 0 < float(face["quality"]) <= 1
    assert summary["visits"] == len(shots) == VISITS[clip]
    assert summary["stored"] == summary["faces"] == sum(map(len, shots.values()))
    assert summary["sights"] >= summary["faces"]
    for numbers in shots.values():
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert len(numbers) <= 8


def test_each_visits_best_picture_is_nearly_the_best_of_all(clips: Path, environment: dict[str, str]) -> None:
    """Against the quality of every sight, as forward rates it."""
    shares, counts = [], []
    models = Path(environment["FACEFERRY_MODEL_DIR"])
    settings = DetectSettings(device="edge", detector="yunet", keep="visits", model_dir=models)
    with open_detector(settings) as detector:
        pipeline = Pipeline(detector, settings)
        for clip in (name for name, people in VISITS.items() if people):
            visits, best, kept = (
                CameraVisits(),
                defaultdict[str, float](float),
                defaultdict[str, list[float]](list),
            )
            for number, jpeg in enumerate(clip_jpegs(clips / clip)):
                view = pipeline.look(frame(jpeg, number)).view
                asked = question_about(frame(jpeg, number), view, answer_to="", correlation=b"")
                for wanted in visits.look(asked, VisitRules()):
                    kept[wanted.visit].append(wanted.quality)
                for sight in view.faces:
                    visit = visits.visit_at(sight.box)
                    best[visit] = max(best[visit], quality(sight, view.width, view.height))
            shares += [max(kept[visit]) / best[visit] for visit in best]
            counts += [len(kept[visit]) for visit in best]
    assert len(shares) == sum(VISITS.values())
    assert min(shares) >= 0.9
    assert statistics.mean(shares) >= 0.95
    assert statistics.mean(counts) <= 3
    assert max(counts) <= 8


@pytest.mark.parametrize("clip", ["face-demographics-walking-and-pause.mp4", "classroom.mp4"])
def test_a_replay_stores_nothing_new(
    tmp_path: Path, environment: dict[str, str], clips: Path, clip: str
) -> None:
    store = tmp_path / "faces"
    play(environment, store, clips / clip, "visits")
    before = about(store)
    # What the documents draw is what is stored.
    drawn = [moment.why for moment in watch(clips / clip) if moment.why is not None]
    assert Counter(known["why"] for known in before.values()) == Counter(drawn)
    play(environment, store, clips / clip, "visits")
    assert about(store) == before
    play(environment, store, clips / clip, "every")
    assert set(before) < set(about(store))  # the same faces, and all others


class Capture:
    """Plays a recording as capture does, with its frames in any order within its window."""

    WINDOW = 8
    AGAIN_S = 1.0

    def __init__(self, link: Link, jpegs: list[bytes]) -> None:
        self._link = link
        self._frames = [
            replace(frame(jpeg, number, "front"), after=number - 1 if number else None)
            for number, jpeg in enumerate(jpegs)
        ]
        self.answered: dict[int, Done] = {}

    async def play(self, chance: random.Random) -> None:
        """Have every frame answered."""
        receiving = asyncio.create_task(self._receive())
        sent_s: dict[int, float] = {}
        while missing := [each for each in self._frames if each.sequence not in self.answered]:
            window = missing[: self.WINDOW]
            chance.shuffle(window)
            for each in window:
                if time.monotonic() - sent_s.get(each.sequence, -math.inf) > self.AGAIN_S:
                    with contextlib.suppress(LinkDown):
                        self._link.publish(encode_frame(each))
                        sent_s[each.sequence] = time.monotonic()
            await asyncio.sleep(0.01)
        receiving.cancel()

    async def _receive(self) -> None:
        async for delivery in self._link:
            delivery.acknowledge()
            done = decode_done(delivery.message)
            self.answered[done.sequence] = done


@dataclass
class Edge:
    """forward, its store and so many detects, as processes, on two brokers."""

    folder: Path
    settings: Mapping[str, str]
    forward: ServiceProcess
    detects: list[ServiceProcess]

    @property
    def stored(self) -> dict[str, dict[str, str]]:
        return about(self.folder / "faces")


@asynccontextmanager
async def edge(folder: Path, environment: Mapping[str, str], detects: int) -> AsyncIterator[Edge]:
    with running_broker(folder) as local, running_broker(folder) as cloud:
        settings = {
            **environment,
            "FACEFERRY_DEVICE": "porch",
            "FACEFERRY_KEEP": "visits",
            "FACEFERRY_LOCAL_MQTT_URL": local.url,
            "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
            "FACEFERRY_STORE_URL": (folder / "faces").as_uri(),
            "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
        }

        def start(name: str) -> ServiceProcess:
            return ServiceProcess(name, folder, settings).start()

        store, forward = start("store"), start("forward")
        found = Edge(folder, settings, forward, [start("detect") for _ in range(detects)])
        try:
            await eventually(partial(_are_up, found))
            yield found
        finally:
            for process in (store, found.forward, *found.detects):
                process.kill()


def _are_up(one: Edge) -> bool:
    is_forward_up = one.forward.log.count("mqtt.link_up") == 2
    return is_forward_up and all("mqtt.link_up" in detect.log for detect in one.detects)


def _has_stored(one: Edge, least: int) -> bool:
    return len(one.stored) >= least


@asynccontextmanager
async def capture_link(settings: Mapping[str, str]) -> AsyncIterator[Link]:
    broker = Broker(settings["FACEFERRY_LOCAL_MQTT_URL"])
    async with Link("local", broker, identity="capture", subscriptions=["faceferry/porch/+/done"]) as link:
        await link.wait_up()
        yield link


async def empty(forward: ServiceProcess) -> None:
    """Wait until everything has been brought to the store."""
    await eventually(lambda: forward.metric("faceferry_spool_faces") == 0)


async def test_three_detects_and_frames_in_any_order_want_what_one_wants(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], clips: Path
) -> None:
    jpegs = clip_jpegs(clips / "face-demographics-walking-and-pause.mp4")
    found = []
    for detects, seed in ((1, 1), (3, 2), (3, 3)):
        folder = tmp_path_factory.mktemp("edge")
        async with (
            edge(folder, environment, detects) as one,
            capture_link(one.settings) as link,
        ):
            await Capture(link, jpegs).play(random.Random(seed))
            await empty(one.forward)
            found.append(one.stored)
            assert sum(up.metric("faceferry_detect_unanswered_total") for up in one.detects) == 0
    assert len({face["visit"] for face in found[0].values()}) == 3
    assert found[1] == found[2] == found[0]


async def test_while_forward_is_away_every_face_is_kept_and_nobody_is_missed(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    jpegs = clip_jpegs(clips / "classroom.mp4")
    async with edge(tmp_path, environment, 1) as one, capture_link(one.settings) as link:
        one.forward.kill()
        live = [
            Frame(Source("porch", "front"), number, datetime.now(UTC), jpegs[number]) for number in range(5)
        ]
        done: set[int] = set()
        for each in live:
            link.publish(encode_frame(replace(each, time=datetime.now(UTC))))
            delivery = await asyncio.wait_for(anext(link), 20)
            done.add(decode_done(delivery.message).sequence)
        assert done == set(range(5))
        assert one.detects[0].metric("faceferry_detect_unanswered_total") == 5
        one.forward.start()
        await eventually(lambda: len(one.stored) == 20)  # four people in five frames
        assert not any("visit" in face for face in one.stored.values())
        # A forward that is only just back may be slower than its detect is patient: so until it is believed.
        for number in range(9, 19):
            unanswered = one.detects[0].metric("faceferry_detect_unanswered_total")
            link.publish(encode_frame(Frame(Source("porch", "front"), number, datetime.now(UTC), jpegs[9])))
            await asyncio.wait_for(anext(link), 20)
            if one.detects[0].metric("faceferry_detect_unanswered_total") == unanswered:
                break
        await eventually(lambda: sum("visit" in face for face in one.stored.values()) == 4)


async def test_a_forward_that_is_killed_wants_one_more_picture_of_a_visit_and_never_one_fewer(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    jpegs = clip_jpegs(clips / "head-pose-face-detection-female-and-male.mp4")
    async with edge(tmp_path, environment, 1) as one, capture_link(one.settings) as link:
        playing = asyncio.create_task(Capture(link, jpegs).play(random.Random(1)))
        for kills in range(1, 4):
            await eventually(partial(_has_stored, one, 2 * kills))
            one.forward.kill()
            one.forward.start()
        await playing
        await empty(one.forward)
        # She sits on the left, he on the right.
        sides = Counter(
            int(face["box"].split(",")[0]) > WIDTH / 2 for face in one.stored.values() if "visit" in face
        )
        assert set(sides) == {True, False}, "somebody has no picture"
        assert max(sides.values()) <= 1 + kills


async def test_visits_are_told_of_and_the_latest_picture_is_kept(
    tmp_path: Path, environment: dict[str, str], clips: Path
) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    async with edge(tmp_path, environment, 1) as one, capture_link(one.settings) as link:
        broker = Broker(one.settings["FACEFERRY_LOCAL_MQTT_URL"])
        topics = ["faceferry/porch/+/visit", "faceferry/porch/+/latest"]
        async with Link("local", broker, identity="listener", subscriptions=topics) as listener:
            await listener.wait_up()
            link.publish(encode_frame(Frame(Source("porch", "front"), 1, datetime.now(UTC), jpeg)))
            heard = [(await asyncio.wait_for(anext(listener), 20)).message for _ in range(3)]
        told = [json.loads(each.payload) for each in heard if each.topic.endswith("/visit")]
        assert [each["event"] for each in told] == ["began", "ended"]
        assert told[0]["visit"] == told[1]["visit"]
        async with Link("local", broker, identity="later", subscriptions=topics[1:]) as later:
            kept = (await asyncio.wait_for(anext(later), 20)).message
        assert kept.retain
        assert dict(kept.attributes)["id"] == told[0]["picture"]
        assert dict(kept.attributes)["visit"] == told[0]["visit"]
