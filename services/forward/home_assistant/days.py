"""A camera's figures of a day, and a device's, as Home Assistant gets them."""

from dataclasses import dataclass
from datetime import date, datetime

from services.common.errors import Refused
from services.common.wire import times
from services.common.wire.message import Message, from_json, to_json
from services.common.wire.topics import Source, camera_topic, device_topic


@dataclass(slots=True)
class Day:
    """A camera's figures.

    Attributes:
        on: the day that is counted, in this device's time zone.
        visits: how many have begun on it.
        people: how many are there now.
        last_seen: when a person was last seen, on any day, UTC; None for never.
    """

    on: date
    visits: int = 0
    people: int = 0
    last_seen: datetime | None = None

    def turn(self, today: date) -> None:
        """Set the count to 0 if another day has begun."""
        if today != self.on:
            self.on, self.visits = today, 0

    def see(self, at: datetime) -> None:
        """Note that a person was seen; the latest time counts, because frames come out of order."""
        self.last_seen = at if self.last_seen is None else max(self.last_seen, at)

    def take_over(self, before: "Day") -> None:
        """Continue with the figures that an earlier process has published."""
        if before.on == self.on:
            self.visits += before.visits
        if before.last_seen is not None:
            self.see(before.last_seen)

    def message(self, source: Source) -> Message:
        """Return the figures as the message that the broker retains."""
        body = {
            "people": self.people,
            "visits_today": self.visits,
            "day": self.on.isoformat(),
            "last_seen": None if self.last_seen is None else times.rfc3339(self.last_seen),
        }
        return _kept(camera_topic(source, "home"), body)


def read_day(payload: bytes) -> Day:
    """Read what `Day.message` has written.

    Raises:
        Refused: `bad_json`, `bad_time`, or `bad_home`: the payload is something else.
    """
    match from_json(payload):
        case {"visits_today": int(visits), "day": str(day), "last_seen": str() | None as seen} if visits >= 0:
            last_seen = None if seen is None else times.parse_rfc3339(seen)
            try:
                return Day(date.fromisoformat(day), visits, last_seen=last_seen)
            except ValueError as error:
                raise Refused("bad_home", str(error)) from error
    raise Refused("bad_home", payload[:64].decode(errors="replace"))


def device_message(device: str, *, is_cloud_up: bool, waiting: int, oldest_s: float) -> Message:
    """Return a device's figures as the message that the broker retains.

    Args:
        device: its name.
        is_cloud_up: whether there is a connection to the cloud.
        waiting: how many faces wait for the cloud.
        oldest_s: for how many seconds the oldest of them has.
    """
    body = {"cloud": is_cloud_up, "waiting": waiting, "oldest_s": round(oldest_s)}
    return _kept(device_topic(device, "forward/home"), body)


def _kept(topic: str, body: object) -> Message:
    return Message(topic=topic, payload=to_json(body), qos=1, retain=True, content_type="application/json")
