import time
from typing import Protocol

from services.store import drops
from services.store.admission import device_of
from services.store.lanes import Lanes
from services.store.rates import Rates
from services.store.settings import StoreSettings


class Room(Protocol):
    """What the door has to know of the room behind it; see `Waiting`."""

    @property
    def bytes(self) -> int: ...  # noqa: D102

    def would_lose(self, device: str, size_bytes: int) -> bool: ...  # noqa: D102


class Door:
    """Says of each message, by its topic alone and before anything is done for it, whether it may come in.

    What may not is let go: its device hears of no receipt, has it still and sends it again.

    Args:
        settings: the store's.
        room: what is behind it.
        lanes: are told.
    """

    def __init__(self, settings: StoreSettings, room: Room, lanes: Lanes) -> None:
        self._room = room
        self._lanes = lanes
        self._bytes = Rates(settings.store_device_max_bytes_s)
        self._faces = Rates(settings.store_device_max_faces_s)

    def lets_in(self, topic: str, size_bytes: int) -> bool:
        """Let a message in, or count it: its device is over its rate, or over its share of a full room."""
        device, now_s = device_of(topic), time.monotonic()
        if not (self._bytes.has_left(device, now_s) and self._faces.has_left(device, now_s)):
            drops.FACES.count("over_rate", device=device[:63])
            self._lanes.turned_away(device, now_s)
            return False
        self._bytes.spend(device, size_bytes, now_s)
        self._faces.spend(device, 1, now_s)
        if self._room.would_lose(device, size_bytes):
            drops.FACES.count("over_share", device=device[:63], waiting_bytes=self._room.bytes)
            self._lanes.turned_away(device, now_s)
            return False
        self._lanes.let_in(device)
        return True

    def has_refused(self, device: str) -> None:
        """Note that something of a device was let in, and then refused: many such are a flood, too."""
        self._lanes.turned_away(device, time.monotonic())
