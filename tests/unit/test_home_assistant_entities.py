"""What is said for Home Assistant, and when."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from services.common.errors import Refused
from services.common.mqtt import LinkDown
from services.common.wire.message import Message
from services.common.wire.topics import Source
from services.common.wire.visits import Stage, VisitEvent
from services.forward.home_assistant.days import Day, read_day
from services.forward.home_assistant.entities import COMES_BACK_S, DEVICE_EVERY_S, MOST_CAMERAS, HomeAssistant

FRONT = Source("porch", "front")
MONDAY = date(2026, 11, 30)
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
CONFIG, STATE = "homeassistant/device/faceferry_porch_front/config", "faceferry/porch/front/home"


class World:
    """A broker that keeps what is retained, a clock and a calendar."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.is_up = True
        self.now_s = 0.0
        self.today = MONDAY

    def publish(self, message: Message) -> None:
        if not self.is_up:
            raise LinkDown("local")
        assert message.retain
        assert message.qos == 1
        self.kept[message.topic] = message.payload

    def home(self) -> HomeAssistant:
        return HomeAssistant("porch", self.publish, today=lambda: self.today, now_s=lambda: self.now_s)

    def told(self, topic: str = STATE) -> dict[str, object]:
        told: dict[str, object] = json.loads(self.kept[topic])
        return told


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def home(world: World) -> HomeAssistant:
    home = world.home()
    home.link_up()
    return home


def state(payload: bytes, camera: str = "front") -> Message:
    return Message(topic=f"faceferry/porch/{camera}/status", payload=payload)


def news(stage: Stage, at: datetime = NOON) -> VisitEvent:
    return VisitEvent(stage, "v", began=at, seen=at, picture="p", shot=1, quality=0.5, people=1)


def test_a_camera_is_announced_as_soon_as_it_has_a_state(home: HomeAssistant, world: World) -> None:
    assert CONFIG not in world.kept
    home.take_state(state(b"stalled"))
    components = world.told(CONFIG)["components"]
    assert isinstance(components, dict)
    assert components.keys() == {"latest", "somebody", "visits_today", "last_seen"}
    assert world.told() == {"people": 0, "visits_today": 0, "day": "2026-11-30", "last_seen": None}


def test_a_camera_that_is_gone_is_taken_back(home: HomeAssistant, world: World) -> None:
    home.take_state(state(b"offline"))
    assert world.kept[CONFIG]
    home.take_state(state(b""))
    assert (world.kept[CONFIG], world.kept[STATE]) == (b"", b"")
    home.take_state(state(b"", "never-there"))
    assert "homeassistant/device/faceferry_porch_never-there/config" not in world.kept


def test_a_camera_that_went_while_forward_was_away_is_taken_back_too(
    world: World, home: HomeAssistant
) -> None:
    kept = Day(MONDAY, visits=3).message(FRONT)
    home.take_own(kept)
    home.measure(is_cloud_up=True, waiting=0, oldest_s=0)
    assert STATE not in world.kept
    world.now_s += COMES_BACK_S + 1
    home.measure(is_cloud_up=True, waiting=0, oldest_s=0)
    assert (world.kept[CONFIG], world.kept[STATE]) == (b"", b"")


@pytest.mark.parametrize("order", ["state first", "figures first"])
def test_the_day_goes_on_after_a_restart(world: World, home: HomeAssistant, order: str) -> None:
    kept = Day(MONDAY, visits=3, last_seen=NOON).message(FRONT)
    if order == "state first":
        home.take_state(state(b"online"))
    home.take_own(kept)
    home.take_state(state(b"online"))
    home.news(FRONT, news(Stage.BEGAN, NOON + timedelta(minutes=1)))
    assert world.told()["visits_today"] == 4
    home.take_own(kept)  # the same again, with the next connection
    home.news(FRONT, news(Stage.ENDED, NOON + timedelta(minutes=1)))
    assert world.told()["visits_today"] == 4
    assert world.told()["last_seen"] == "2026-11-30T12:01:00.000000Z"


def test_what_it_says_itself_is_no_earlier_day(home: HomeAssistant, world: World) -> None:
    home.news(FRONT, news(Stage.BEGAN))
    echo = Message(topic=STATE, payload=world.kept[STATE])
    home.take_own(echo)
    home.take_own(Message(topic=STATE, payload=world.kept[STATE], retain=True))
    home.news(FRONT, news(Stage.ENDED))
    assert world.told()["visits_today"] == 1


def test_a_new_day_begins_at_none_and_without_a_visit(home: HomeAssistant, world: World) -> None:
    home.news(FRONT, news(Stage.BEGAN))
    world.today += timedelta(days=1)
    home.measure(is_cloud_up=True, waiting=0, oldest_s=0)
    assert world.told()["visits_today"] == 0
    assert world.told()["last_seen"] is not None


def test_who_is_there_is_told_at_once_and_once(home: HomeAssistant, world: World) -> None:
    home.people(FRONT, 2)
    assert world.told()["people"] == 2
    world.kept.clear()
    home.people(FRONT, 2)
    assert not world.kept


def test_a_better_picture_alone_is_no_news(home: HomeAssistant, world: World) -> None:
    home.news(FRONT, news(Stage.BEGAN))
    world.kept.clear()
    home.news(FRONT, news(Stage.BETTER, NOON + timedelta(seconds=1)))
    assert not world.kept


def test_a_camera_of_another_kind_of_pictures_is_announced_anew(home: HomeAssistant, world: World) -> None:
    home.take_state(state(b"online"))
    home.picture_changed(FRONT, "image/png")
    assert b'"content_type":"image/png"' in world.kept[CONFIG]


def test_a_new_connection_is_told_everything(home: HomeAssistant, world: World) -> None:
    home.take_state(state(b"online"))
    home.measure(is_cloud_up=True, waiting=2, oldest_s=3.4)
    before = dict(world.kept)
    world.kept.clear()
    home.link_up()
    assert world.kept == before
    assert world.told("faceferry/porch/forward/home") == {"cloud": True, "waiting": 2, "oldest_s": 3}
    assert world.kept["faceferry/porch/forward/status"] == b"online"


def test_without_a_connection_nothing_is_lost(home: HomeAssistant, world: World) -> None:
    world.is_up = False
    home.news(FRONT, news(Stage.BEGAN))
    world.is_up = True
    home.link_up()
    assert world.told()["visits_today"] == 1


def test_the_link_is_told_at_once_and_figures_now_and_then(home: HomeAssistant, world: World) -> None:
    home.measure(is_cloud_up=True, waiting=0, oldest_s=0)
    home.measure(is_cloud_up=True, waiting=5, oldest_s=1)
    assert world.told("faceferry/porch/forward/home")["waiting"] == 0
    home.measure(is_cloud_up=False, waiting=6, oldest_s=2)
    assert world.told("faceferry/porch/forward/home") == {"cloud": False, "waiting": 6, "oldest_s": 2}
    world.now_s += DEVICE_EVERY_S
    home.measure(is_cloud_up=False, waiting=9, oldest_s=12)
    assert world.told("faceferry/porch/forward/home")["waiting"] == 9


def test_who_invents_cameras_is_not_followed_for_ever(home: HomeAssistant, world: World) -> None:
    for number in range(MOST_CAMERAS + 10):
        home.take_state(state(b"online", f"c{number}"))
    assert (
        sum(topic.startswith("homeassistant/device/faceferry_porch_") for topic in world.kept) == MOST_CAMERAS
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b'{"visits_today": -1, "day": "2026-11-30", "last_seen": null}',
        b'{"visits_today": 1, "day": "30", "last_seen": null}',
        b'{"visits_today": 1, "day": "2026-11-30", "last_seen": "x"}',
    ],
)
def test_what_nobody_of_us_has_told_is_refused(payload: bytes) -> None:
    with pytest.raises(Refused):
        read_day(payload)
